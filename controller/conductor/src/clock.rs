//! The clock of runs: it goes on evenly from the controller's start, and a step of the wall clock does not reach it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use proto_model::time::Timestamp;

/// Monotonic, and shown as wall time: as the wall clock was when it was anchored.
#[derive(Clone)]
pub struct RunClock(Arc<Anchored>);

struct Anchored {
    wall: Box<dyn Fn() -> Timestamp + Send + Sync>,
    started: Instant,
    /// Wall time at `started`, as the last anchoring knows it.
    origin: AtomicI64,
}

impl RunClock {
    pub fn new(wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let origin = AtomicI64::new(wall().0);
        Self(Arc::new(Anchored {
            wall: Box::new(wall),
            started: Instant::now(),
            origin,
        }))
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.origin.load(Ordering::SeqCst).saturating_add(self.elapsed_ms()))
    }

    /// Since the controller's start.
    pub(crate) fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Takes over what the wall clock says now. Only while no run is active: a run has one time from its start to its end.
    pub(crate) fn anchor(&self) {
        let origin = (self.0.wall)().0.saturating_sub(self.elapsed_ms());
        self.0.origin.store(origin, Ordering::SeqCst);
    }

    /// A moment that is known by the time since the controller's start.
    pub(crate) fn at(&self, elapsed_ms: i64) -> Timestamp {
        Timestamp(self.0.origin.load(Ordering::SeqCst).saturating_add(elapsed_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_is_seen_when_it_is_anchored_and_not_before() {
        static WALL: AtomicI64 = AtomicI64::new(1_700_000_000_000);
        let clock = RunClock::new(|| Timestamp(WALL.load(Ordering::SeqCst)));
        let before = clock.now();
        for step in [30_000, -12_000, 3_600_000, -3_600_000] {
            WALL.fetch_add(step, Ordering::SeqCst);
            assert!(clock.now().since(before) < 1_000 && clock.now() >= before, "after {step} ms");
        }
        WALL.fetch_add(86_400_000, Ordering::SeqCst);
        clock.anchor();
        let all = 86_400_000 + 18_000;
        assert!((all..all + 1_000).contains(&clock.now().since(before)));
    }
}
