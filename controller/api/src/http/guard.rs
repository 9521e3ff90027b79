//! What every answer carries, what a session may do, and that forms come from our own pages.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::access::{may, row, short};
use crate::error::{ApiError, ApiResult};
use crate::http::sessions::Session;

/// Only our own style, script and connections; no frame around it and no form to elsewhere.
const CONTENT: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                       form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const ALWAYS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub(crate) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The call's row in the access table, held against the session's role.
pub(crate) fn allowed(session: &Session, call: &str) -> ApiResult<()> {
    let Some(row) = row(call) else {
        return Err(ApiError::new("forbidden", format!("no rule allows {call}")));
    };
    may(session.caller.role, row).map_err(|needed| {
        let held = session.caller.role;
        ApiError::new(
            "forbidden",
            format!("{} needs the role {needed}; you have the role {held}", short(call)),
        )
    })
}

/// Compared in constant time, so that nobody learns it letter by letter.
pub(crate) fn from_our_page(session: &Session, form_secret: &str) -> ApiResult<()> {
    use subtle::ConstantTimeEq;
    if bool::from(session.form_secret.as_bytes().ct_eq(form_secret.as_bytes())) {
        return Ok(());
    }
    Err(ApiError::new(
        "forbidden",
        "the form does not come from a page of this session; load the page again",
    ))
}
