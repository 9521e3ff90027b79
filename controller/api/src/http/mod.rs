//! The dashboard's front door: pages over the operators' TLS, behind a sign-in and the same access table as every call. It adds no power.

mod answer;
mod guard;
mod live;
mod pages;
mod sessions;
mod stop;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderMap;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get, post};
use tokio::sync::Semaphore;

use crate::caller::Caller;
use crate::door::Door;
use crate::error::{ApiError, ApiResult};
use crate::service::Api;
use proto_transport::PeerInfo;
use sessions::{Session, Sessions};

/// Bytes of a form.
const FORM_LIMIT: usize = 4 * 1024;
/// Pages that are followed live at the same time.
const FOLLOWED: usize = 200;

/// A sign-in's name in the audit log; it is no call.
const SIGNS_IN: &str = "Pages/SignIn";

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct PagesDoor {
    pub api: Api,
    /// Where refusals are written down, as those of calls are.
    pub refusals: Door,
    pub sessions: Arc<Sessions>,
    pub followers: Arc<Semaphore>,
}

/// Every page; to be served over TLS only, since the cookie is for nothing else.
pub fn pages(api: &Api) -> Router {
    let door = PagesDoor {
        api: api.clone(),
        refusals: api.door(),
        sessions: Arc::new(Sessions::default()),
        followers: Arc::new(Semaphore::new(FOLLOWED)),
    };
    let inside = Router::new()
        .route("/now", get(pages::now))
        .route("/now/live", get(live::now))
        .route("/runs/{run}", get(pages::run))
        .route("/runs/{run}/live", get(live::run))
        .route("/halt", post(stop::halt))
        .route("/release", post(stop::release))
        .route("/sign-out", post(pages::sign_out))
        .route_layer(from_fn_with_state(door.clone(), guard::signed_in));
    Router::new()
        .route("/", get(pages::first))
        .route("/sign-in", get(pages::door).post(pages::sign_in))
        .route("/assets/{name}", get(pages::asset))
        .merge(inside)
        .route("/{*elsewhere}", any(pages::nowhere))
        .layer(DefaultBodyLimit::max(FORM_LIMIT))
        .layer(from_fn(guard::headers))
        .with_state(door)
}

impl PagesDoor {
    /// The session of a cookie, as long as the token it was opened with is good.
    fn session(&self, cookie: &str) -> Option<Session> {
        let now = self.api.now();
        let session = self.sessions.of(cookie, now)?;
        self.api.0.keyring.still_holds(&session.caller, now).then_some(session)
    }

    /// The new session's cookie. Failures are counted and slowed as everywhere.
    fn sign_in(&self, token: &str, peer: &PeerInfo) -> ApiResult<String> {
        let now = self.api.now();
        let caller = self.api.0.keyring.by_bearer(token, peer.address, false, now);
        let caller = caller.inspect_err(|error| self.refused(None, peer, SIGNS_IN, error))?;
        self.api.0.audit.told(&caller, SIGNS_IN, now, &HeaderMap::new());
        tracing::info!(caller = caller.name, address = caller.address, "signed in to the dashboard");
        Ok(self.sessions.open(caller, now))
    }

    /// Whether a form may do what it asks for; a refusal is written down.
    fn lets(&self, session: &Session, peer: &PeerInfo, call: &str, form_secret: &str) -> ApiResult<()> {
        let may = guard::from_our_page(session, form_secret).and_then(|()| guard::allowed(session, call));
        may.inspect_err(|error| self.refused(Some(&session.caller), peer, call, error))
    }

    fn refused(&self, caller: Option<&Caller>, peer: &PeerInfo, call: &str, error: &ApiError) {
        self.refusals.write_refusal(caller, Some(peer.address), call, &error.0.code);
    }
}
