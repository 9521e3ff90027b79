//! One injection while it acts or is being undone: its journal, its times, what it told; it decides nothing by itself.

use agent_faults::{AnyFault, Claim, Look};
use agent_levers::Journal;
use proto_model::id::InjectionId;
use proto_model::injection::InjectionState;
use serde_json::Value;

use crate::following::Following;
use crate::handle::{ActiveInjection, StartOrder};
use crate::report_sequence::ReportSequence;
use crate::undoing::Undoing;

/// How often it is asked whether what was started is still there.
pub(crate) const ALIVE_EVERY_MS: u64 = 1_000;
/// The shortest window of measuring, and the longest.
pub(crate) const WINDOW_MS: (u64, u64) = (1_000, 5_000);

pub(crate) struct Active {
    pub(crate) injection: InjectionId,
    pub(crate) run: String,
    pub(crate) kind: String,
    pub(crate) deadline_ms: u64,
    pub(crate) claims: Vec<Claim>,
    pub(crate) journal: Journal,
    pub(crate) teller: ReportSequence,
    pub(crate) stage: Stage,
}

pub(crate) enum Stage {
    Holding(Holding),
    Undoing(Undoing),
}

/// What only an injection that acts has.
pub(crate) struct Holding {
    pub(crate) fault: &'static dyn AnyFault,
    pub(crate) effect: Value,
    pub(crate) following: Following,
    /// The order, for kinds that act more than once.
    pub(crate) order: Box<StartOrder>,
    /// When the kind is to be asked to go on.
    pub(crate) next_action_ms: Option<u64>,
    pub(crate) lease_until_ms: u64,
    pub(crate) next_alive_ms: u64,
    pub(crate) windows: Windows,
}

/// When to look at the effect.
pub(crate) struct Windows {
    pub(crate) length_ms: u64,
    pub(crate) next_ms: u64,
    pub(crate) number: u64,
    pub(crate) last: Option<Look>,
}

impl Windows {
    /// The first look is after the kind's settling time, and every duration of 3 s or more has room for one window.
    pub(crate) fn plan(applied_ms: u64, duration_ms: u64, settle_ms: u64) -> Self {
        let room = duration_ms.saturating_sub(settle_ms) / 2;
        Self {
            length_ms: room.clamp(WINDOW_MS.0, WINDOW_MS.1),
            next_ms: applied_ms + settle_ms,
            number: 0,
            last: None,
        }
    }
}

impl Active {
    pub(crate) fn state(&self) -> InjectionState {
        match &self.stage {
            Stage::Holding(_) => InjectionState::Holding,
            Stage::Undoing(undoing) if undoing.last_failure.is_some() => InjectionState::UndoFailed,
            Stage::Undoing(_) => InjectionState::Undoing,
        }
    }

    /// When something is due for it next, on boot time.
    pub(crate) fn next_due_ms(&self) -> u64 {
        match &self.stage {
            Stage::Undoing(undoing) => undoing.next_try_ms,
            Stage::Holding(holding) => {
                let watch = holding.next_alive_ms.min(holding.windows.next_ms);
                let action = holding.next_action_ms.unwrap_or(u64::MAX);
                let follow = holding.following.next_due_ms();
                watch.min(follow).min(action).min(self.deadline_ms).min(holding.lease_until_ms)
            }
        }
    }

    /// What is left behind as long as its undo fails.
    pub(crate) fn residue(&self) -> Option<String> {
        let Stage::Undoing(undoing) = &self.stage else { return None };
        let failure = undoing.last_failure.as_ref().filter(|_| undoing.dirty)?;
        Some(format!("{} {}: {}: {}", self.kind, self.injection, failure.undo, failure.error))
    }

    /// As it is now; a time that was counted from another boot is over.
    pub(crate) fn glance(&self, boot_id: &str, now_ms: u64) -> ActiveInjection {
        let is_of_this_boot = self.journal.history().opened.boot_id == boot_id;
        let lease_until = match &self.stage {
            Stage::Holding(holding) => holding.lease_until_ms,
            Stage::Undoing(_) => 0,
        };
        ActiveInjection {
            injection: self.injection.clone(),
            run: self.run.clone(),
            fault: self.kind.clone(),
            state: self.state(),
            left_ms: if is_of_this_boot {
                self.deadline_ms.saturating_sub(now_ms)
            } else {
                0
            },
            lease_left_ms: lease_until.saturating_sub(now_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_of_three_seconds_has_a_measured_window() {
        for settle in [0, 200, 1_000, 1_500, 2_000] {
            for duration in (3_000..20_000).step_by(250) {
                let windows = Windows::plan(100, duration, settle);
                assert!(windows.next_ms + windows.length_ms <= 100 + duration, "{settle} {duration}");
            }
        }
        assert_eq!(Windows::plan(0, 60_000, 1_000).length_ms, 5_000);
    }
}
