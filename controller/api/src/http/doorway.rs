//! What the handlers of the pages share: sessions, what a form may do, and where refusals are written down.

use std::sync::Arc;

use axum::http::HeaderMap;
use proto_transport::PeerInfo;
use tokio::sync::Semaphore;

use crate::caller::Caller;
use crate::door::Door;
use crate::error::{ApiError, ApiResult};
use crate::http::calls::SIGNS_IN;
use crate::http::guard;
use crate::http::sessions::{Session, Sessions};
use crate::service::Api;

/// Pages that are followed live at the same time.
const FOLLOWED: usize = 200;

#[derive(Clone)]
pub(crate) struct PagesDoor {
    pub api: Api,
    /// Where refusals are written down, as those of calls are.
    pub refusals: Door,
    pub sessions: Arc<Sessions>,
    pub followers: Arc<Semaphore>,
}

impl PagesDoor {
    pub fn of(api: &Api) -> Self {
        Self {
            api: api.clone(),
            refusals: api.door(),
            sessions: Arc::new(Sessions::default()),
            followers: Arc::new(Semaphore::new(FOLLOWED)),
        }
    }

    /// The session of a cookie, as long as the token it was opened with is good.
    pub fn session(&self, cookie: &str) -> Option<Session> {
        let now = self.api.now();
        let session = self.sessions.of(cookie, now)?;
        self.api.0.keyring.still_holds(&session.caller, now).then_some(session)
    }

    /// The new session's cookie. Failures are counted and slowed as everywhere.
    pub fn sign_in(&self, token: &str, peer: &PeerInfo) -> ApiResult<String> {
        let now = self.api.now();
        let caller = self.api.0.keyring.by_bearer(token, peer.address, false, now);
        let caller = caller.inspect_err(|error| self.refused(None, peer, SIGNS_IN, error))?;
        self.api.0.audit.told(&caller, SIGNS_IN, now, &HeaderMap::new());
        tracing::info!(caller = caller.name, address = caller.address, "signed in to the dashboard");
        Ok(self.sessions.open(caller, now))
    }

    /// Whether a form may do what it asks for; a refusal is written down.
    pub fn lets(&self, session: &Session, peer: &PeerInfo, call: &str, form_secret: &str) -> ApiResult<()> {
        let may = guard::from_our_page(session, form_secret).and_then(|()| guard::allowed(session, call));
        may.inspect_err(|error| self.refused(Some(&session.caller), peer, call, error))
    }

    pub fn refused(&self, caller: Option<&Caller>, peer: &PeerInfo, call: &str, error: &ApiError) {
        self.refusals.write_refusal(caller, Some(peer.address), call, &error.0.code);
    }
}
