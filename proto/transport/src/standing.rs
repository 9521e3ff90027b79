//! What a connection has shown of itself so far, shared by its socket and whoever answers its requests.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::admission::Admission;
use crate::budget::Seat;

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

    pub(crate) fn identify(&self, identity: &str) {
        let mut state = self.state();
        if matches!(*state, State::Outsider { .. })
            && let Some(seat) = self.0.admission.identified(identity)
        {
            *state = State::Identified { _seat: seat };
        }
    }

    pub(crate) fn request_finished(&self) {
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
