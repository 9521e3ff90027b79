//! The pages and the way in and out; what they tell is read here and drawn elsewhere.

use axum::Extension;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use controller_dashboard::{Acting, Frame, Known, Now, RunLine, RunPage, StopForms};
use controller_report::RunState;
use proto_model::event::Event;
use proto_transport::PeerInfo;
use serde::Deserialize;

use crate::error::{ApiError, ApiResult};
use crate::http::guard::{allowed, from_our_page};
use crate::http::sessions::{Session, cookie_in};
use crate::http::{PagesDoor, answer};

/// Runs on the first page.
const RUNS: u32 = 20;
/// Calls of the access table whose rows the pages use.
pub(crate) const SEES_ALL: [&str; 3] = ["/fracas.v1.Emergency/Status", "/fracas.v1.Hosts/List", "/fracas.v1.Runs/List"];
pub(crate) const SEES_RUN: &str = "/fracas.v1.Runs/Show";
pub(crate) const RELEASES: &str = "/fracas.v1.Emergency/Release";

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

pub(crate) async fn now(State(door): State<PagesDoor>, Extension(session): Extension<Session>) -> Response {
    let known = match door.known(&session).await {
        Ok(known) => known,
        Err(error) => return answer::refused(&error),
    };
    let frame = frame(&session);
    let page = Now {
        frame: &frame,
        halt: &door.api.0.runs.halt_state(),
        may_release: allowed(&session, RELEASES).is_ok(),
        known: &known,
    };
    Html(page.html()).into_response()
}

pub(crate) async fn run(State(door): State<PagesDoor>, Extension(session): Extension<Session>, Path(run): Path<String>) -> Response {
    let events = match door.events(&session, &run).await {
        Ok(events) => events,
        Err(error) => return answer::refused(&error),
    };
    let frame = frame(&session);
    match RunPage::of(&frame, &events) {
        Some(page) => Html(page.html()).into_response(),
        None => answer::refused(&ApiError::new("store", format!("run {run} has no beginning in the store"))),
    }
}

pub(crate) fn frame(session: &Session) -> Frame {
    Frame {
        caller: session.caller.name.clone(),
        role: session.caller.role.as_str().to_owned(),
        form_secret: session.form_secret.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

impl PagesDoor {
    /// The state of the halt with its form.
    pub fn stop_forms(&self, session: &Session) -> String {
        let forms = StopForms {
            frame: &frame(session),
            halt: &self.api.0.runs.halt_state(),
            may_release: allowed(session, RELEASES).is_ok(),
        };
        forms.html()
    }

    /// What the first page tells of, read now.
    pub async fn known(&self, session: &Session) -> ApiResult<Known> {
        for call in SEES_ALL {
            allowed(session, call)?;
        }
        let now = self.api.0.runs.now();
        let (store, hosts) = (&self.api.0.store, self.api.0.voice.hosts());
        let mut acting = Vec::new();
        for row in store.runs(u32::MAX, true).await? {
            let events = store.run_events(&row.id, 1).await?;
            acting.extend(RunState::of(&events).iter().flat_map(Acting::of));
        }
        let mut runs = Vec::new();
        for page in store.run_pages(RUNS, false).await? {
            runs.push(RunLine::of(&self.api.summary(page).await?));
        }
        Ok(Known::of(now, acting, &hosts, runs))
    }

    /// The events of one run, by id, prefix or `@last`.
    pub async fn events(&self, session: &Session, run: &str) -> ApiResult<Vec<Event>> {
        allowed(session, SEES_RUN)?;
        let run = self.api.0.store.find_run(run).await?;
        Ok(self.api.0.store.run_events(&run, 1).await?)
    }
}
