//! What a run showed, and whether its hosts are proven clean: two independent facts, never one number.

use serde::{Deserialize, Serialize};

use crate::id::{HostName, InjectionId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Failed,
    Inconclusive,
    Aborted,
    Error,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::Aborted => "aborted",
            Self::Error => "error",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    /// Every host showed that nothing of the run is left.
    Proven,
    /// At least one host could not be asked.
    Unproven,
    /// At least one host has residue.
    Dirty,
    /// Not asked yet.
    Pending,
}

impl Cleanup {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Unproven => "unproven",
            Self::Dirty => "dirty",
            Self::Pending => "pending",
        }
    }
}

/// How the run as a whole came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEndedBy {
    Completed,
    Operator,
    Halt,
    Guard,
    Limit,
    HostLost,
    ControllerRestart,
    Failure,
}

impl RunEndedBy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Operator => "operator",
            Self::Halt => "halt",
            Self::Guard => "guard",
            Self::Limit => "limit",
            Self::HostLost => "host_lost",
            Self::ControllerRestart => "controller_restart",
            Self::Failure => "failure",
        }
    }
}

/// One rule that matched when the run was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable word: `no_hypothesis`, `hypothesis_broke`, `not_recovered`, `effect_unexercised`, `cleanup_unproven`, ...
    pub code: String,
    pub message: String,
    #[serde(default)]
    pub host: Option<HostName>,
    #[serde(default)]
    pub injection: Option<InjectionId>,
    #[serde(default)]
    pub probe: Option<String>,
}

impl Reason {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            host: None,
            injection: None,
            probe: None,
        }
    }

    pub fn host(mut self, host: &HostName) -> Self {
        self.host = Some(host.clone());
        self
    }

    pub fn injection(mut self, injection: &InjectionId) -> Self {
        self.injection = Some(injection.clone());
        self
    }

    pub fn probe(mut self, probe: &str) -> Self {
        self.probe = Some(probe.to_owned());
        self
    }
}
