//! What a fleet has seen so far: plain counters that every host adds to, and when each halt arrived.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tests_harness::limits::monotonic_ns;

/// Halts and releases remembered; older ones are dropped.
const HALTS: usize = 1_024;

/// The state of a whole fleet at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Hosts whose session was welcomed and is up.
    pub connected: u64,
    /// Sessions that were welcomed, since the beginning.
    pub sessions: u64,
    /// Dials that failed or were refused, and sessions that the controller ended.
    pub refused: u64,
    /// Injections that act now.
    pub acting: u64,
    pub applied: u64,
    pub undone: u64,
    /// Injections whose end the controller has not settled.
    pub unsettled: u64,
    pub preflights: u64,
    pub proofs: u64,
    pub renewals: u64,
    /// Orders of another session, or out of their order.
    pub violations: u64,
    /// When a session was welcomed last, by `monotonic_ns`.
    pub session_ns: u64,
    /// When an injection ended last.
    pub undone_ns: u64,
}

/// When a halt, or a release, reached the hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HaltTimes {
    pub epoch: u64,
    /// Each host counts once.
    pub hosts: u64,
    pub first_ns: u64,
    pub last_ns: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub connected: AtomicU64,
    pub sessions: AtomicU64,
    pub refused: AtomicU64,
    pub acting: AtomicU64,
    pub applied: AtomicU64,
    pub undone: AtomicU64,
    pub unsettled: AtomicU64,
    pub preflights: AtomicU64,
    pub proofs: AtomicU64,
    pub renewals: AtomicU64,
    pub violations: AtomicU64,
    pub session_ns: AtomicU64,
    pub undone_ns: AtomicU64,
    halts: Mutex<BTreeMap<u64, HaltTimes>>,
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn subtract(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

/// What the counter shows is now.
pub(crate) fn stamp(counter: &AtomicU64) {
    counter.fetch_max(monotonic_ns(), Ordering::Relaxed);
}

impl Counters {
    pub fn now(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connected: of(&self.connected),
            sessions: of(&self.sessions),
            refused: of(&self.refused),
            acting: of(&self.acting),
            applied: of(&self.applied),
            undone: of(&self.undone),
            unsettled: of(&self.unsettled),
            preflights: of(&self.preflights),
            proofs: of(&self.proofs),
            renewals: of(&self.renewals),
            violations: of(&self.violations),
            session_ns: of(&self.session_ns),
            undone_ns: of(&self.undone_ns),
        }
    }

    /// One host has just read a halt or a release.
    pub fn halt_arrived(&self, epoch: u64) {
        let now = monotonic_ns();
        let mut halts = self.halts.lock().unwrap_or_else(PoisonError::into_inner);
        let times = halts.entry(epoch).or_insert(HaltTimes {
            epoch,
            first_ns: now,
            ..HaltTimes::default()
        });
        times.hosts += 1;
        times.last_ns = now;
        if halts.len() > HALTS {
            halts.pop_first();
        }
    }

    pub fn halt(&self, epoch: u64) -> Option<HaltTimes> {
        self.halts.lock().unwrap_or_else(PoisonError::into_inner).get(&epoch).copied()
    }
}
