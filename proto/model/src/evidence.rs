//! Levels of resiliency with what each requirement stands on, and publications; computed elsewhere, never typed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::RunId;
use crate::time::Timestamp;
use crate::verdict::Verdict;

/// How a requirement stands. Only `holds` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Holds,
    Missing,
    /// Nothing here looks at it yet; it is not true and not false.
    NotEvaluated,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Missing => "missing",
            Self::NotEvaluated => "not evaluated",
        }
    }
}

/// One run that a requirement stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    pub run: RunId,
    pub name: String,
    pub environment: String,
    pub verdict: Verdict,
    pub at: Timestamp,
    /// From the run's end to the moment of asking.
    pub age_ms: u64,
    /// Why it does not count, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One line of a level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Stable word: `on_a_cadence`, `fail_tested`, ...
    pub code: String,
    pub title: String,
    pub standing: Standing,
    /// What it stands on, or what is missing, line by line.
    pub says: Vec<String>,
    /// What to do next, when it does not hold or soon will not.
    pub next: Option<String>,
    /// The evidence ages: from then on it does not hold without more.
    pub holds_until: Option<Timestamp>,
    /// Holds, but not for long.
    pub warning: Option<String>,
    pub evidence: Vec<Witness>,
    /// The newest runs that do not count for it, each with the reason.
    #[serde(default)]
    pub passed_over: Vec<Witness>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelLine {
    pub level: u8,
    /// Of the level's own requirements: all hold, one is missing, or none is missing and one is not evaluated.
    pub standing: Standing,
    /// Its own requirements hold, and those of every level below.
    pub reached: bool,
    pub requirements: Vec<Requirement>,
}

/// The JSON document `Levels`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    pub service: String,
    /// The highest level that is reached; 0 is none.
    pub level: u8,
    /// The moment that ages are counted to.
    pub at: Timestamp,
    pub levels: Vec<LevelLine>,
    /// The service file cannot be read by this version.
    #[serde(default)]
    pub problem: Option<String>,
}

/// A delivery of results to readers: the JSON document `Publication`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    pub at: Timestamp,
    pub by: String,
    /// Where it went, in words: a directory, an address.
    pub place: String,
    /// `sha256:` over every file of it.
    pub digest: String,
    /// Decided runs of each service that it showed.
    pub points: BTreeMap<String, u32>,
}
