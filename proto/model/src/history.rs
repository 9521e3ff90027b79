//! Which of a service's finished runs are asked for, and from where on: what a level needs is found without looking at all of them.

use crate::finished::FinishedRun;
use crate::id::RunId;
use crate::time::Timestamp;

/// Which runs of a service are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slice {
    All,
    In {
        environment: String,
    },
    Passed {
        test: String,
    },
    NotPassed {
        test: String,
    },
    Decided {
        test: String,
    },
    /// Passed, and not in production when it was planned.
    PassedElsewhere {
        test: String,
        environment: String,
    },
    Production {
        environment: String,
    },
    /// In production, and evidence of it.
    ShownInProduction {
        environment: String,
    },
}

/// Of which runs the environments are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Places {
    All,
    PassedElsewhere { test: String },
    Production,
}

/// A place in the order of runs: by their ends and, of the same moment, by id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub ended_at: Timestamp,
    pub run: String,
}

impl Moment {
    /// Before every run that ended then.
    pub fn start_of(ended_at: Timestamp) -> Self {
        Self {
            ended_at,
            run: String::new(),
        }
    }

    /// After every run that ended by then.
    pub fn end_of(ended_at: Timestamp) -> Self {
        Self::start_of(Timestamp(ended_at.0.saturating_add(1)))
    }

    pub fn of(run: &RunId, ended_at: Timestamp) -> Self {
        Self {
            ended_at,
            run: run.to_string(),
        }
    }
}

/// How many runs of a service ended alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tally {
    pub environment: String,
    pub verdict: String,
    pub decided: bool,
    pub runs: u64,
}

/// A month (UTC) in which a service has or had finished runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMonth {
    pub since: Timestamp,
    /// Where the next one begins.
    pub until: Timestamp,
    /// Another one after each change of one of its runs.
    pub version: u64,
    /// What was made of it, in the words of whoever keeps it; nothing once a run has changed since.
    pub made: Option<String>,
}

/// A finished run, and the number of events that what is known of it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRun {
    pub events: u64,
    pub known: FinishedRun,
}
