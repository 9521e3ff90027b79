//! An answer that lasts: it ends as soon as what its caller has shown no longer holds. It changes nothing of what is answered.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Frame, SizeHint};
use proto_model::time::Timestamp;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::{HeaderMap, Response};

use crate::caller::{Caller, Credential};
use crate::error::ApiError;
use crate::keyring::Keyring;

/// How often a caller is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The answer, watched; callers on this machine are known by their process and need no watching.
pub(crate) fn watched(answer: Response<Body>, keyring: Keyring, now: fn() -> Timestamp, caller: Caller) -> Response<Body> {
    if caller.credential == Credential::Socket {
        return answer;
    }
    answer.map(|inner| {
        Body::new(Watched {
            inner,
            keyring,
            now,
            caller,
            look: None,
            ended: false,
        })
    })
}

struct Watched {
    inner: Body,
    keyring: Keyring,
    now: fn() -> Timestamp,
    caller: Caller,
    /// From the first time that there is nothing to send.
    look: Option<Interval>,
    ended: bool,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        while self.look.get_or_insert_with(looks).poll_tick(cx).is_ready() {
            if !self.keyring.still_holds(&self.caller, (self.now)()) {
                self.ended = true;
                return Poll::Ready(Some(Ok(Frame::trailers(farewell(&self.caller)))));
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn looks() -> Interval {
    let mut interval = tokio::time::interval(LOOK_EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn farewell(caller: &Caller) -> HeaderMap {
    let message = format!("the token or certificate of {} has ended or is revoked", caller.name);
    let (status, mut trailers) = (Status::from(ApiError::new("not_authenticated", message)), HeaderMap::new());
    if let Err(error) = status.add_header(&mut trailers) {
        tracing::error!(%error, "a stream ends without saying why");
    }
    trailers
}

#[cfg(test)]
mod tests {
    use controller_store::{Actor, MemoryStore, OperatorRecord, StoreHandle};
    use proto_model::id::TokenId;
    use proto_model::role::Role;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    /// Never says anything and never ends.
    struct Silent;

    impl http_body::Body for Silent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    async fn frame_of(body: &mut Body) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *body), cx)).await
    }

    #[tokio::test]
    async fn a_stream_ends_within_seconds_of_its_callers_token() {
        let keyring = Keyring::load(StoreHandle::spawn(Box::new(MemoryStore::new()))).await.unwrap();
        let key = OperatorRecord {
            id: TokenId::generate(),
            name: "ann".into(),
            role: Role::Viewer,
            secret_hash: String::new(),
            created_at: NOW,
            expires_at: NOW.plus_ms(60_000),
            revoked: false,
            created_by: "root@local".into(),
            last_used: None,
        };
        let actor = Actor {
            by: "root@local".into(),
            address: "local".into(),
        };
        keyring.add(key.clone(), &actor).await.unwrap();
        let caller = Caller::new("ann", "10.0.0.1:1".into(), Role::Viewer, Credential::Token(key.id));
        let mut body = watched(Response::new(Body::new(Silent)), keyring.clone(), || NOW, caller).into_body();
        let early = tokio::time::timeout(2 * LOOK_EVERY, frame_of(&mut body)).await;
        assert!(early.is_err(), "a stream ended while its token was good");
        keyring.revoke("ann", &actor, NOW).await.unwrap();
        let frame = tokio::time::timeout(3 * LOOK_EVERY, frame_of(&mut body))
            .await
            .expect("the stream goes on after the revocation");
        let trailers = frame.unwrap().unwrap().into_trailers().unwrap();
        let status = Status::from_header_map(&trailers).unwrap();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        assert!(status.message().contains("ann"), "{status}");
    }
}
