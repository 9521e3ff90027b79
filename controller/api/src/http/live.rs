//! Pages that follow what happens, by server-sent events: parts that changed, drawn again, and a sign of life in between.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::error::ApiError;
use crate::http::doorway::PagesDoor;
use crate::http::pages::page::{Page, Reader, read};

/// News that come within this time are drawn once.
const GATHER: Duration = Duration::from_millis(300);
/// Without news it is looked again, for hosts come and go without an event of a run; and the reader sees that we live.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Parts on their way to a slow reader.
const ON_THEIR_WAY: usize = 8;

type Sent = mpsc::Sender<Result<Event, Infallible>>;

/// The updates of one page, until nothing can change any more or its reader is gone.
pub(crate) fn follow<P: Page>(door: PagesDoor, reader: Reader, cookie: String) -> Response {
    let Ok(seat) = door.followers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are followed").into_response();
    };
    let (sent, stream) = mpsc::channel(ON_THEIR_WAY);
    let follower = Follower::<P> {
        news: door.api.0.runs.watch(),
        cookie,
        reader,
        door,
        shown: None,
        _seat: seat,
    };
    tokio::spawn(follower.follow(sent));
    Sse::new(ReceiverStream::new(stream)).into_response()
}

/// One open page.
struct Follower<P: Page> {
    door: PagesDoor,
    reader: Reader,
    cookie: String,
    news: broadcast::Receiver<proto_model::event::Event>,
    /// What its reader was shown last.
    shown: Option<P::Data>,
    _seat: OwnedSemaphorePermit,
}

impl<P: Page> Follower<P> {
    async fn follow(mut self, sent: Sent) {
        loop {
            // The session may have ended or its token been revoked meanwhile.
            match self.door.session(&self.cookie) {
                Some(session) => self.reader.session = session,
                None => return drop(put(&sent, "gone", "-").await),
            }
            match self.tell(&sent).await {
                Ok(()) => {}
                Err(Left) => return,
            }
            if self.shown.as_ref().is_some_and(P::is_over) {
                return drop(put(&sent, "over", "-").await);
            }
            tokio::select! {
                () = self.hear() => {}
                () = sent.closed() => return,
            }
        }
    }

    /// Sends the parts that changed; else that we live, or that what is shown can be wrong.
    async fn tell(&mut self, sent: &Sent) -> Result<(), Left> {
        let data = match read::<P>(&self.door, &self.reader).await {
            Ok(data) => data,
            Err(error) => return tell_unread::<P>(sent, &error).await,
        };
        let (mut changed, mut wrong) = (false, P::unread(&data).cloned());
        for part in P::PARTS {
            if self.shown.as_ref().is_some_and(|shown| P::same(part, shown, &data)) {
                continue;
            }
            match P::part(&self.reader, &data, part) {
                Ok(html) => {
                    put(sent, part, &html).await?;
                    changed = true;
                }
                // It is left as it was.
                Err(error) => drop(wrong.get_or_insert(error)),
            }
        }
        match wrong {
            Some(error) => tell_unread::<P>(sent, &error).await?,
            None if !changed => put(sent, "alive", "-").await?,
            None => {}
        }
        self.shown = Some(match self.shown.take() {
            Some(before) => P::shown(before, data),
            None => data,
        });
        Ok(())
    }

    /// Waits for news that concern the page, or until it is time to look again.
    async fn hear(&mut self) {
        let heard = tokio::time::timeout(LOOK_AGAIN, async {
            loop {
                match self.news.recv().await {
                    Ok(event) if self.shown.as_ref().is_some_and(|shown| !P::concerns(shown, &event)) => {}
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

/// The next look tries again.
async fn tell_unread<P: Page>(sent: &Sent, error: &ApiError) -> Result<(), Left> {
    tracing::warn!(page = P::PATH, why = error.0.message, "a page that is followed cannot be read now");
    put(sent, "stale", "-").await
}

/// The reader is gone.
struct Left;

async fn put(sent: &Sent, part: &str, html: &str) -> Result<(), Left> {
    sent.send(Ok(Event::default().event(part).data(html))).await.map_err(|_| Left)
}
