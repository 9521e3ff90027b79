//! The dashboard's front door: pages over the operators' TLS, behind a sign-in and the same access table as every call. It adds no power.

mod answer;
mod calls;
mod doorway;
mod entrance;
mod guard;
mod inside;
mod live;
mod pages;
mod sessions;
mod stop;
#[cfg(test)]
pub(crate) mod tests;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get, post};

use crate::service::Api;
use doorway::PagesDoor;

/// Bytes of a form.
const FORM_LIMIT: usize = 4 * 1024;

/// Every page; to be served over TLS only, since the cookie is for nothing else.
pub fn pages(api: &Api) -> Router {
    let door = PagesDoor::of(api);
    let inside = pages::routes()
        .route("/halt", post(stop::halt))
        .route("/release", post(stop::release))
        .route("/sign-out", post(entrance::sign_out))
        .route_layer(from_fn_with_state(door.clone(), inside::signed_in));
    Router::new()
        .route("/", get(entrance::first))
        .route("/sign-in", get(entrance::door).post(entrance::sign_in))
        .route("/assets/{name}", get(entrance::asset))
        .merge(inside)
        .route("/{*elsewhere}", any(entrance::nowhere))
        .layer(DefaultBodyLimit::max(FORM_LIMIT))
        .layer(from_fn(guard::headers))
        .with_state(door)
}
