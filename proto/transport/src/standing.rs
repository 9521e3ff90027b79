//! What a connection has shown of itself so far, shared by its socket and whoever answers its requests.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::time::Instant;
use tower::{Layer, Service};

use crate::admission::Admission;
use crate::budget::Seat;
use crate::identity::PeerInfo;

/// Clones are of the same connection.
#[derive(Clone)]
pub struct Standing(Arc<Inner>);

struct Inner {
    admission: Admission,
    state: Mutex<State>,
}

enum State {
    Outsider { seat: Seat<IpAddr>, until: Instant },
    Identified { _seat: Seat<String> },
    Closed,
}

impl Standing {
    pub(crate) fn identified(admission: Admission, seat: Seat<String>) -> Self {
        Self::new(admission, State::Identified { _seat: seat })
    }

    pub(crate) fn outsider(admission: Admission, seat: Seat<IpAddr>) -> Self {
        let until = Instant::now() + admission.limits().unidentified;
        Self::new(admission, State::Outsider { seat, until })
    }

    fn new(admission: Admission, state: State) -> Self {
        let state = Mutex::new(state);
        Self(Arc::new(Inner { admission, state }))
    }

    /// When the connection ends unless it finishes a request; `None` for one that is identified.
    pub(crate) fn ends_at(&self) -> Option<Instant> {
        match &*self.state() {
            State::Outsider { until, .. } => Some(*until),
            State::Identified { .. } | State::Closed => None,
        }
    }

    /// Frees the seat; requests of the connection may outlive it.
    pub(crate) fn close(&self) {
        *self.state() = State::Closed;
    }

    fn identify(&self, identity: &str) {
        let mut state = self.state();
        if matches!(*state, State::Outsider { .. })
            && let Some(seat) = self.0.admission.identified(identity)
        {
            *state = State::Identified { _seat: seat };
        }
    }

    fn request_finished(&self) {
        let limits = self.0.admission.limits();
        if let State::Outsider { seat, until } = &mut *self.state() {
            *until = Instant::now() + limits.unidentified;
            seat.protect(limits.activity);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.state() {
            State::Outsider { .. } => "outsider",
            State::Identified { .. } => "identified",
            State::Closed => "closed",
        })
    }
}

impl PeerInfo {
    /// A request has proven who the peer is (a token, a session): the connection no longer counts as an outsider's.
    pub fn identify(&self, identity: &str) {
        if let Some(standing) = &self.standing {
            standing.identify(identity);
        }
    }
}

/// Notes on a connection that a request of it was answered: put around every service that a listener serves.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnswerLayer;

/// What `AnswerLayer` makes of a service.
#[derive(Debug, Clone)]
pub struct AnswerService<S>(S);

impl<S> Layer<S> for AnswerLayer {
    type Service = AnswerService<S>;
    fn layer(&self, inner: S) -> AnswerService<S> {
        AnswerService(inner)
    }
}

impl<S, B> Service<http::Request<B>> for AnswerService<S>
where
    S: Service<http::Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let standing = request.extensions().get::<PeerInfo>().and_then(|peer| peer.standing.clone());
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(standing) = standing {
                standing.request_finished();
            }
            answer
        })
    }
}
