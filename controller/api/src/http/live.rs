//! Pages that follow what happens, by server-sent events: whole parts, drawn again when something changed, and a sign of life in between.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use controller_dashboard::{Known, RunPage};
use proto_model::id::RunId;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::http::sessions::{Session, cookie_in};
use crate::http::{PagesDoor, answer};

/// News that come within this time are drawn once.
const GATHER: Duration = Duration::from_millis(300);
/// Without news it is looked again, for hosts come and go without an event of a run; and the reader sees that we live.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A look that takes longer is no look.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// Parts on their way to a slow reader.
const ON_THEIR_WAY: usize = 8;

type Sent = mpsc::Sender<Result<Event, Infallible>>;

pub(crate) async fn now(State(door): State<PagesDoor>, Extension(session): Extension<Session>, headers: HeaderMap) -> Response {
    followed(door, session, &headers, None)
}

pub(crate) async fn run(
    State(door): State<PagesDoor>,
    Extension(session): Extension<Session>,
    headers: HeaderMap,
    Path(run): Path<String>,
) -> Response {
    match door.events(&session, &run).await {
        Ok(events) => followed(door, session, &headers, events.first().map(|event| event.run_id.clone())),
        Err(error) => answer::refused(&error),
    }
}

fn followed(door: PagesDoor, session: Session, headers: &HeaderMap, run: Option<RunId>) -> Response {
    let Ok(seat) = door.followers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are followed").into_response();
    };
    let cookie = headers
        .get(header::COOKIE)
        .and_then(|value| value.to_str().ok())
        .and_then(cookie_in);
    let (sent, stream) = mpsc::channel(ON_THEIR_WAY);
    let follower = Follower {
        news: door.api.0.runs.watch(),
        cookie: cookie.unwrap_or_default().to_owned(),
        session,
        door,
        run,
        stop: String::new(),
        shown: Shown::Nothing,
        _seat: seat,
    };
    tokio::spawn(follower.follow(sent));
    Sse::new(ReceiverStream::new(stream)).into_response()
}

/// One open page.
struct Follower {
    door: PagesDoor,
    session: Session,
    cookie: String,
    news: broadcast::Receiver<proto_model::event::Event>,
    /// `None` is the first page.
    run: Option<RunId>,
    /// What was sent last.
    stop: String,
    shown: Shown,
    _seat: OwnedSemaphorePermit,
}

impl Follower {
    async fn follow(mut self, sent: Sent) {
        loop {
            // The session may have ended or its token been revoked meanwhile.
            match self.door.session(&self.cookie) {
                Some(session) => self.session = session,
                None => return drop(put(&sent, "gone", "-").await),
            }
            match self.tell(&sent).await {
                Ok(Told::Over) => return drop(put(&sent, "over", "-").await),
                Ok(_) => {}
                Err(Left) => return,
            }
            tokio::select! {
                () = self.hear() => {}
                () = sent.closed() => return,
            }
        }
    }

    /// Sends the parts that changed; else that we live, or that what is shown can be wrong.
    async fn tell(&mut self, sent: &Sent) -> Result<Told, Left> {
        let told = match self.run.clone() {
            None => self.tell_all(sent).await?,
            Some(run) => self.tell_run(sent, &run).await?,
        };
        match told {
            Told::Same => put(sent, "alive", "-").await?,
            Told::Unread => put(sent, "stale", "-").await?,
            Told::Changed | Told::Over => {}
        }
        Ok(told)
    }

    /// What cannot be read now is left as it is and said to be old; the next look tries again.
    async fn tell_all(&mut self, sent: &Sent) -> Result<Told, Left> {
        let stop = self.door.stop_forms(&self.session);
        if stop != self.stop {
            put(sent, "stop", &stop).await?;
            self.stop = stop;
        }
        let known = match tokio::time::timeout(READ_WITHIN, self.door.known(&self.session)).await {
            Ok(Ok(known)) => known,
            Ok(Err(error)) => return Ok(unread("the first page", &error.0.message)),
            Err(_) => return Ok(unread("the first page", "the store does not answer")),
        };
        if matches!(&self.shown, Shown::All(last) if last.tells_the_same_as(&known)) {
            return Ok(Told::Same);
        }
        put(sent, "middle", &known.html()).await?;
        self.shown = Shown::All(known);
        Ok(Told::Changed)
    }

    async fn tell_run(&mut self, sent: &Sent, run: &RunId) -> Result<Told, Left> {
        let name = run.to_string();
        let events = match tokio::time::timeout(READ_WITHIN, self.door.events(&self.session, &name)).await {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => return Ok(unread(&name, &error.0.message)),
            Err(_) => return Ok(unread(&name, "the store does not answer")),
        };
        let (Some(last), Some(middle)) = (events.last(), RunPage::middle(&events)) else {
            return Ok(unread(&name, "it has no beginning in the store"));
        };
        let over = controller_report::RunState::of(&events).is_some_and(|state| state.judged.is_some());
        let same = matches!(&self.shown, Shown::Until(seq) if *seq == last.seq);
        if !same {
            put(sent, "middle", &middle).await?;
            self.shown = Shown::Until(last.seq);
        }
        Ok(match (over, same) {
            (true, _) => Told::Over,
            (false, true) => Told::Same,
            (false, false) => Told::Changed,
        })
    }

    /// Waits for news that concern the page, or until it is time to look again.
    async fn hear(&mut self) {
        let heard = tokio::time::timeout(LOOK_AGAIN, async {
            loop {
                match self.news.recv().await {
                    Ok(event) if self.run.as_ref().is_some_and(|run| run != &event.run_id) => {}
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => return tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        });
        if heard.await.is_ok() {
            tokio::time::sleep(GATHER).await;
            while self.news.try_recv().is_ok() {}
        }
    }
}

/// What became of a look.
enum Told {
    /// New parts were sent.
    Changed,
    /// The reader has it all already.
    Same,
    /// It could not be read: what is shown may be wrong.
    Unread,
    /// Nothing can come any more.
    Over,
}

fn unread(what: &str, why: &str) -> Told {
    tracing::warn!(what, why, "a page that is followed cannot be read now");
    Told::Unread
}

/// What the reader has in the middle of the page.
enum Shown {
    Nothing,
    All(Known),
    /// A run's events up to this one.
    Until(u64),
}

/// The reader is gone.
struct Left;

async fn put(sent: &Sent, part: &str, html: &str) -> Result<(), Left> {
    sent.send(Ok(Event::default().event(part).data(html))).await.map_err(|_| Left)
}
