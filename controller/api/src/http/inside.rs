//! Who gets inside: a browser with a session whose token is still good. All others are led to the sign-in.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use proto_transport::PeerInfo;

use crate::error::ApiError;
use crate::http::calls::call_of_form;
use crate::http::doorway::PagesDoor;
use crate::http::sessions::cookie_in;

/// Puts the session into the request, or leads to the door.
pub(crate) async fn signed_in(State(door): State<PagesDoor>, mut request: Request, next: Next) -> Response {
    let cookie = request
        .headers()
        .get(header::COOKIE)
        .and_then(|value| value.to_str().ok())
        .and_then(cookie_in);
    match cookie.and_then(|cookie| door.session(cookie)) {
        Some(session) => {
            if let Some(peer) = request.extensions().get::<PeerInfo>() {
                peer.identify(&session.caller.name);
            }
            request.extensions_mut().insert(session);
            next.run(request).await
        }
        None => {
            note_strangers_form(&door, &request);
            if wants_events(&request) {
                // A script would take the sign-in's page for what it asked for.
                return StatusCode::UNAUTHORIZED.into_response();
            }
            Redirect::to("/sign-in").into_response()
        }
    }
}

fn wants_events(request: &Request) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepts.is_some_and(|accepts| accepts.starts_with("text/event-stream"))
}

/// A form that would have done something, sent by nobody who is signed in.
fn note_strangers_form(door: &PagesDoor, request: &Request) {
    if let Some(call) = call_of_form(request.uri().path())
        && let Some(peer) = request.extensions().get::<PeerInfo>()
    {
        door.refused(None, peer, call, &ApiError::new("not_authenticated", "no session"));
    }
}
