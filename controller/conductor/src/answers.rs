//! What a supervisor answers to the front door; no run is seen from the inside here.

use proto_model::halt::HaltState;
use proto_model::id::{HostName, InjectionId, RunId};

/// A run that was taken on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub run: RunId,
    /// True when the key had been used before: nothing new was started.
    pub repeated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopTarget {
    Run(RunId),
    Injection(InjectionId),
}

/// What a stop came to, once its effect is gone or its time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopAnswer {
    pub run: RunId,
    pub outcome: StopOutcome,
    /// Injections that were undone since the stop was asked for.
    pub undone: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// Nothing of it acts any more; hosts may still be proving it.
    Stopped,
    /// Some of it may still act: a host is away or slow.
    Stopping,
    AlreadyFinished,
}

impl StopOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Stopping => "stopping",
            Self::AlreadyFinished => "already_finished",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaltAnswer {
    pub state: HaltState,
    pub told: Vec<HostName>,
    pub answered: Vec<HostName>,
    pub undone: u32,
    pub took_ms: u64,
}
