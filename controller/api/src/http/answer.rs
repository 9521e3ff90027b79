//! What the pages' door answers, as responses of HTTP; it decides nothing.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use controller_dashboard::{Notice, SignIn};

use crate::error::ApiError;
use crate::http::sessions::COOKIE;

/// A failed call as a page: what went wrong, in the words of the command line.
pub(crate) fn refused(error: &ApiError) -> Response {
    let status = match error.0.code.as_str() {
        "not_authenticated" => return Redirect::to("/sign-in").into_response(),
        "forbidden" => StatusCode::FORBIDDEN,
        "not_found" => StatusCode::NOT_FOUND,
        "usage" | "ambiguous" => StatusCode::BAD_REQUEST,
        "refused" | "halted" => StatusCode::CONFLICT,
        "too_many" => StatusCode::TOO_MANY_REQUESTS,
        "store" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    notice(status, "That did not work", &error.0.message)
}

pub(crate) fn notice(status: StatusCode, title: &str, text: &str) -> Response {
    let page = Notice {
        title: title.to_owned(),
        text: text.to_owned(),
    };
    (status, Html(page.html())).into_response()
}

pub(crate) fn door(status: StatusCode, why: Option<String>) -> Response {
    (status, Html(SignIn { refused: why }.html())).into_response()
}

/// To the first page, with this cookie or without any.
pub(crate) fn with_cookie(cookie: Option<&str>, to: &str) -> Response {
    let text = match cookie {
        Some(value) => format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict"),
        None => format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"),
    };
    let mut response = Redirect::to(to).into_response();
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}
