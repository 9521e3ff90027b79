//! One run of a program that the host offers to probes, asked for by a session and done by the agent; whether it may run is the host's policy's to say.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest that a program may run.
pub(crate) const MAX_TIMEOUT_MS: u64 = 60_000;

/// What a session asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramOrder {
    /// A file of the one folder that the policy names.
    pub program: String,
    pub args: Vec<String>,
    /// After so long nothing of it goes on.
    pub timeout_ms: u64,
}

impl ProgramOrder {
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.min(MAX_TIMEOUT_MS))
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramEnd {
    /// `None` after a signal.
    pub code: Option<i32>,
    /// Its standard output, what is no text replaced.
    pub output: String,
}
