//! Crash points for the suites: counts every step of a process and ends it at one of them. No program uses it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crate::error::Crashed;

/// Shared by everything that belongs to one process of a suite: its journal and its hands.
#[derive(Debug, Clone, Default)]
pub struct CrashPlan(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    passed: u64,
    crash_at: Option<u64>,
    crashed: Option<String>,
}

impl CrashPlan {
    /// Counts, and never crashes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the count anew; the `point`-th step, from 1, is the last.
    pub fn crash_at(&self, point: u64) {
        *self.state() = State {
            crash_at: Some(point),
            ..State::default()
        };
    }

    /// Steps passed so far.
    pub fn points(&self) -> u64 {
        self.state().passed
    }

    /// Where it crashed, in words.
    pub fn crashed(&self) -> Option<String> {
        self.state().crashed.clone()
    }

    /// The process is started anew and does not crash again.
    pub fn restart(&self) {
        *self.state() = State::default();
    }

    /// One step; from the planned one on, all fail.
    pub fn pass(&self, step: &str) -> Result<(), Crashed> {
        let mut state = self.state();
        if state.crashed.is_some() {
            return Err(Crashed);
        }
        state.passed += 1;
        if state.crash_at == Some(state.passed) {
            state.crashed = Some(step.to_owned());
            return Err(Crashed);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
