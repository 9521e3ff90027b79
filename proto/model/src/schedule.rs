//! The nouns of a cadence: schedules, their ticks, freezes, and how old the last evidence is; it computes no calendar.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{FreezeId, RunId, ScheduleId};
use crate::time::Timestamp;
use crate::verdict::Verdict;

const DAY_MS: u64 = 24 * 3_600_000;
/// A test is due again this long after its last decided run.
pub const DUE_AFTER_MS: u64 = 28 * DAY_MS;
/// And overdue when more than this is over: the longest gap that still counts as a cadence.
pub const OVERDUE_AFTER_MS: u64 = 35 * DAY_MS;

/// What becomes of ticks whose time went by while nobody could start them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissedRule {
    /// They are recorded as missed.
    #[default]
    Skip,
    /// The last of them starts once; the others are recorded as missed.
    RunOnce,
}

impl MissedRule {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "skip" => Some(Self::Skip),
            "run-once" => Some(Self::RunOnce),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TickState {
    /// Decided, and not yet carried out.
    Due,
    Started,
    Skipped,
    Missed,
}

impl TickState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Started => "started",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
        }
    }
}

/// Why a tick was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    Freeze,
    Window,
    Halted,
    /// A host of the plan is under another run.
    ClaimBusy,
    /// The run of an earlier tick is not finished.
    PreviousRunning,
    /// The experiment has no guard, or cannot be undone where policy does not allow that unattended.
    Unattended,
    /// Anything else that a person would be refused for too.
    Refused,
}

impl SkipReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Window => "window",
            Self::Halted => "halted",
            Self::ClaimBusy => "claim_busy",
            Self::PreviousRunning => "previous_running",
            Self::Unattended => "unattended",
            Self::Refused => "refused",
        }
    }
}

/// How old the last decided run of a test is, measured on the marks of a cadence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueState {
    Fresh,
    Due,
    Overdue,
    /// No run of it was ever decided.
    Never,
}

impl DueState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Due => "due",
            Self::Overdue => "overdue",
            Self::Never => "never",
        }
    }

    pub fn of(last_decided: Option<Timestamp>, now: Timestamp) -> Self {
        match last_decided.map(|at| now.since(at)) {
            None => Self::Never,
            Some(age) if age > OVERDUE_AFTER_MS => Self::Overdue,
            Some(age) if age >= DUE_AFTER_MS => Self::Due,
            Some(_) => Self::Fresh,
        }
    }
}

/// A run that was decided, `passed` or `failed`; the others tell nothing of the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub run: RunId,
    pub verdict: Verdict,
    pub at: Timestamp,
}

/// Where a test stands between the marks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub state: DueState,
    pub last: Option<Decided>,
    pub due_at: Option<Timestamp>,
    pub overdue_at: Option<Timestamp>,
}

impl Standing {
    pub fn of(last: Option<Decided>, now: Timestamp) -> Self {
        let at = last.as_ref().map(|decided| decided.at);
        Self {
            state: DueState::of(at, now),
            due_at: at.map(|at| at.plus_ms(DUE_AFTER_MS)),
            overdue_at: at.map(|at| at.plus_ms(OVERDUE_AFTER_MS)),
            last,
        }
    }
}

/// The JSON document `Schedule`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleDocument {
    pub id: ScheduleId,
    pub name: String,
    pub experiment: String,
    pub service: Option<String>,
    /// Null: that of the hosts that match.
    pub environment: Option<String>,
    pub cron: String,
    pub timezone: String,
    pub window: Option<String>,
    pub missed: MissedRule,
    pub set: BTreeMap<String, String>,
    pub paused: bool,
    /// The next times it is planned for; empty while paused.
    pub next: Vec<Timestamp>,
    /// The newest tick.
    pub last: Option<TickDocument>,
    /// The verdict of the newest run that a tick started, once it has one.
    pub verdict: Option<Verdict>,
    /// Of the experiment in its service, however it was started.
    pub due: Standing,
    pub created_at: Timestamp,
    pub created_by: String,
    /// What should be known and does not stand in the way.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Newest first; only when one schedule is shown.
    #[serde(default)]
    pub ticks: Vec<TickDocument>,
}

/// The JSON document `Tick`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickDocument {
    pub schedule: String,
    pub planned_at: Timestamp,
    pub state: TickState,
    pub reason: Option<SkipReason>,
    pub message: Option<String>,
    pub run: Option<RunId>,
    /// More than 1 where several that were missed in a row are one line; `planned_at` is then the last of them.
    pub count: u32,
    pub decided_at: Timestamp,
    pub by: String,
}

/// The JSON document `Freeze`: no scheduled run starts in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeDocument {
    pub id: FreezeId,
    pub from: Timestamp,
    pub until: Timestamp,
    pub reason: String,
    /// Null: every environment.
    pub environment: Option<String>,
    /// The calendar it was imported from.
    pub calendar: Option<String>,
    pub in_force: bool,
    pub created_at: Timestamp,
    pub created_by: String,
}

/// The JSON document `Due`: one test of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueDocument {
    pub service: Option<String>,
    pub experiment: String,
    /// Schedules that run it.
    pub schedules: Vec<String>,
    pub due: Standing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_are_at_28_and_35_days() {
        let at = Timestamp(1_000);
        let state = |age_ms: u64| DueState::of(Some(at), at.plus_ms(age_ms));
        assert_eq!(state(0), DueState::Fresh);
        assert_eq!(state(28 * DAY_MS - 1), DueState::Fresh);
        assert_eq!(state(28 * DAY_MS), DueState::Due);
        assert_eq!(state(35 * DAY_MS), DueState::Due);
        assert_eq!(state(35 * DAY_MS + 1), DueState::Overdue);
        assert_eq!(DueState::of(None, at), DueState::Never);
    }
}
