//! The halt button and the release, by form; the same deeds, rules and record as the calls of the command line.

use axum::Extension;
use axum::extract::{Form, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use proto_transport::PeerInfo;
use serde::Deserialize;
use tonic::Status;

use crate::error::{ApiError, ApiResult};
use crate::http::answer;
use crate::http::calls::{HALTS, RELEASES};
use crate::http::doorway::PagesDoor;
use crate::http::sessions::Session;
use crate::whole::whole;

#[derive(Deserialize)]
pub(crate) struct Why {
    #[serde(default)]
    form_secret: String,
    #[serde(default)]
    reason: String,
}

pub(crate) async fn halt(
    State(door): State<PagesDoor>,
    Extension(session): Extension<Session>,
    Extension(peer): Extension<PeerInfo>,
    Form(why): Form<Why>,
) -> Response {
    let deed = async move { door.halt(&session, &peer, &why).await };
    shown(whole(HALTS, deed).await.flatten())
}

pub(crate) async fn release(
    State(door): State<PagesDoor>,
    Extension(session): Extension<Session>,
    Extension(peer): Extension<PeerInfo>,
    Form(why): Form<Why>,
) -> Response {
    let deed = async move { door.release(&session, &peer, &why).await };
    shown(whole(RELEASES, deed).await.flatten())
}

/// The first page tells what became of it.
fn shown(done: ApiResult<()>) -> Response {
    match done {
        Ok(()) => Redirect::to("/now").into_response(),
        Err(error) => answer::refused(&error),
    }
}

impl PagesDoor {
    /// Never refused because it cannot be written down; written after it happened.
    async fn halt(&self, session: &Session, peer: &PeerInfo, why: &Why) -> ApiResult<()> {
        self.lets(session, peer, HALTS, &why.form_secret)?;
        let caller = session.caller.for_one_call();
        self.api.halt_by(&caller, &why.reason).await;
        self.api.0.audit.told(&caller, HALTS, self.api.now(), &HeaderMap::new());
        Ok(())
    }

    async fn release(&self, session: &Session, peer: &PeerInfo, why: &Why) -> ApiResult<()> {
        self.lets(session, peer, RELEASES, &why.form_secret)?;
        let caller = session.caller.for_one_call();
        let noted = self.api.0.audit.noted(&caller, RELEASES, self.api.now()).await;
        let noted = noted.map_err(|error| ApiError::new("audit", format!("refused: the audit log cannot be written: {error}")))?;
        let done = self.api.release_by(&caller, &why.reason).await.map(drop);
        let answer = match &done {
            Ok(()) => HeaderMap::new(),
            Err(error) => Status::from(error.clone()).into_http::<()>().headers().clone(),
        };
        noted.answered(&answer).await;
        done
    }
}
