//! A page at its path: shown once, or followed. It knows no page by name.

use std::collections::HashMap;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};

use crate::http::answer;
use crate::http::doorway::PagesDoor;
use crate::http::live;
use crate::http::pages::page::{Bar, Page, Reader, read};
use crate::http::sessions::{Session, cookie_in};

/// The page and its updates at their paths.
pub(crate) fn mount<P: Page>(router: Router<PagesDoor>) -> Router<PagesDoor> {
    router
        .route(P::PATH, get(show::<P>))
        .route(&format!("{}/live", P::PATH), get(follow::<P>))
}

async fn show<P: Page>(
    State(door): State<PagesDoor>,
    Extension(session): Extension<Session>,
    Extension(bar): Extension<Bar>,
    Path(named): Path<HashMap<String, String>>,
) -> Response {
    let reader = Reader::of::<P>(session, &bar, named);
    let page = read::<P>(&door, &reader).await.and_then(|data| match P::unread(&data) {
        Some(error) => Err(error.clone()),
        None => P::html(&reader, &data),
    });
    page.map_or_else(|error| answer::refused(&error), |html| Html(html).into_response())
}

async fn follow<P: Page>(
    State(door): State<PagesDoor>,
    Extension(session): Extension<Session>,
    Extension(bar): Extension<Bar>,
    headers: HeaderMap,
    Path(named): Path<HashMap<String, String>>,
) -> Response {
    let reader = Reader::of::<P>(session, &bar, named);
    if let Err(error) = read::<P>(&door, &reader).await {
        return answer::refused(&error);
    }
    let cookie = headers.get(header::COOKIE).and_then(|value| value.to_str().ok());
    let cookie = cookie.and_then(cookie_in).unwrap_or_default().to_owned();
    live::follow::<P>(door, reader, cookie)
}
