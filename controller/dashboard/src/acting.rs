//! Injections that act or are ordered now, with the time until they are undone; of a finished one it says nothing.

use controller_report::{InjectionStatus, RunState};
use proto_model::id::RunId;
use proto_model::time::Timestamp;
use proto_telling::pairs;

/// One injection on its way or at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acting {
    pub run: String,
    pub run_name: String,
    pub fault: String,
    pub params: String,
    pub host: String,
    pub state: &'static str,
    pub duration_ms: u64,
    /// When its duration is over; `None` while it has not begun to act.
    pub over_at: Option<Timestamp>,
}

impl Acting {
    /// Those of one run.
    pub fn of(state: &RunState) -> Vec<Self> {
        let out = state.injections.iter().filter(|i| i.is_out());
        out.map(|i| Self::one(&state.run, &state.plan.name, i)).collect()
    }

    fn one(run: &RunId, name: &str, i: &InjectionStatus) -> Self {
        Self {
            run: run.to_string(),
            run_name: name.to_owned(),
            fault: i.injection.wish.fault.to_string(),
            params: pairs(&i.injection.wish.params).join(" "),
            host: i.injection.host.to_string(),
            state: i.state.as_str(),
            duration_ms: i.injection.wish.duration_ms,
            over_at: i.applied_at.map(|at| at.plus_ms(i.injection.wish.duration_ms)),
        }
    }

    pub(crate) fn left_ms(&self, now: &Timestamp) -> Option<u64> {
        self.over_at.map(|over| over.since(*now))
    }

    /// In words for a reader without a script.
    pub(crate) fn left(&self, now: &Timestamp) -> String {
        match self.left_ms(now) {
            None => "not begun".to_owned(),
            Some(0) => "being undone".to_owned(),
            Some(left) => format!("{} s", left.div_ceil(1_000)),
        }
    }

    pub(crate) fn left_or_all(&self, now: &Timestamp) -> u64 {
        self.left_ms(now).unwrap_or(self.duration_ms)
    }
}
