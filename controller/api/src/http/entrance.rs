//! The way in and out: the sign-in, the sign-out, style and script. It tells nothing of hosts or runs.

use axum::Extension;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use proto_transport::PeerInfo;
use serde::Deserialize;

use crate::http::answer;
use crate::http::doorway::PagesDoor;
use crate::http::guard::from_our_page;
use crate::http::sessions::{Session, cookie_in};

pub(crate) async fn first() -> Redirect {
    Redirect::to("/now")
}

pub(crate) async fn nowhere() -> Response {
    answer::notice(StatusCode::NOT_FOUND, "Not here", "There is no such page.")
}

pub(crate) async fn door() -> Response {
    answer::door(StatusCode::OK, None)
}

#[derive(Deserialize)]
pub(crate) struct Token {
    #[serde(default)]
    token: String,
}

pub(crate) async fn sign_in(State(door): State<PagesDoor>, Extension(peer): Extension<PeerInfo>, Form(form): Form<Token>) -> Response {
    match door.sign_in(form.token.trim(), &peer) {
        Ok(cookie) => answer::with_cookie(Some(&cookie), "/now"),
        Err(error) => answer::door(StatusCode::UNAUTHORIZED, Some(error.0.message)),
    }
}

#[derive(Deserialize)]
pub(crate) struct Leave {
    form_secret: String,
}

pub(crate) async fn sign_out(
    State(door): State<PagesDoor>,
    Extension(session): Extension<Session>,
    headers: HeaderMap,
    Form(form): Form<Leave>,
) -> Response {
    if let Err(error) = from_our_page(&session, &form.form_secret) {
        return answer::refused(&error);
    }
    let cookie = headers
        .get(header::COOKIE)
        .and_then(|value| value.to_str().ok())
        .and_then(cookie_in);
    cookie.into_iter().for_each(|cookie| door.sessions.close(cookie));
    answer::with_cookie(None, "/sign-in")
}

/// Named by its content, so it may be kept for ever.
pub(crate) async fn asset(Path(name): Path<String>) -> Response {
    let Some(asset) = controller_dashboard::asset(&format!("/assets/{name}")) else {
        return nowhere().await;
    };
    let headers = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, asset.text.as_str()).into_response()
}
