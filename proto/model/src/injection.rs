//! The life of an injection as both sides tell it: states, ends, facts from the agent, proofs; never a decision.

use serde::{Deserialize, Serialize};

use crate::catalogue::FaultKind;
use crate::id::{HostName, InjectionId};
use crate::problem::Refusal;
pub use crate::reversal::Reversal;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InjectionState {
    Planned,
    Withdrawn,
    Ordered,
    Refused,
    Applying,
    Holding,
    Undoing,
    Undone,
    UndoFailed,
    Spent,
}

impl InjectionState {
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Withdrawn | Self::Refused | Self::Undone | Self::Spent)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Withdrawn => "withdrawn",
            Self::Ordered => "ordered",
            Self::Refused => "refused",
            Self::Applying => "applying",
            Self::Holding => "holding",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoFailed => "undo_failed",
            Self::Spent => "spent",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    DurationElapsed,
    Stop,
    Halt,
    LocalHalt,
    LeaseLost,
    ApplyFailed,
    EndedEarly,
    Guardian,
    Rescue,
    Boot,
    Package,
    KernelExpiry,
}

impl EndedBy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DurationElapsed => "duration_elapsed",
            Self::Stop => "stop",
            Self::Halt => "halt",
            Self::LocalHalt => "local_halt",
            Self::LeaseLost => "lease_lost",
            Self::ApplyFailed => "apply_failed",
            Self::EndedEarly => "ended_early",
            Self::Guardian => "guardian",
            Self::Rescue => "rescue",
            Self::Boot => "boot",
            Self::Package => "package",
            Self::KernelExpiry => "kernel_expiry",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectState {
    Confirmed,
    Mismatch,
    /// Nothing met the fault: no packet matched, no process used the quota.
    Unexercised,
    Unknown,
}

impl EffectState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Mismatch => "mismatch",
            Self::Unexercised => "unexercised",
            Self::Unknown => "unknown",
        }
    }
}

/// One window of measuring a fault while it acts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    pub asked: Option<f64>,
    pub measured: Option<f64>,
    pub unit: String,
    pub state: EffectState,
    #[serde(default)]
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    pub effect: serde_json::Value,
    pub engine: Option<String>,
    pub apply_ms: u64,
    pub deadline_boot_ms: u64,
    /// The host was already past the target; nothing had to be done.
    pub noop: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Dense from 1.
    pub window: u64,
    pub window_ms: u64,
    #[serde(flatten)]
    pub observation: Observation,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub ended_by: EndedBy,
    #[serde(default)]
    pub reason: Option<String>,
}

/// How a stop was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoAnswer {
    UndoneNow,
    AlreadyUndone,
    UnknownId,
    /// It acts no more, and what it did cannot be taken back.
    Spent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    pub ended_by: EndedBy,
    /// Who put it right: `agent`, `guardian`, `rescue`, `kernel`.
    pub undone_by: String,
    pub undo_ms: u64,
    pub answer: UndoAnswer,
    #[serde(default)]
    pub drift: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoFailed {
    pub undo: String,
    pub error: String,
    pub attempt: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// What it did, or had recorded that it was about to do when its agent was lost.
    pub consequences: Vec<String>,
}

/// What an agent tells about one injection. `Refused`, `Undone` and `Spent` end it and are repeated until settled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentFact {
    Refused(Refusal),
    Applied(Applied),
    Observed(Observed),
    Ending(Ending),
    Undone(Undone),
    UndoFailed(UndoFailed),
    Spent(Spent),
}

impl AgentFact {
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Undone(_) | Self::Spent(_))
    }
}

/// A fact with what makes its repeats harmless.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentReport {
    pub injection: InjectionId,
    pub run: String,
    pub agent_seq: u64,
    pub boot_id: String,
    pub boot_ms: u64,
    pub fact: AgentFact,
}

/// What the controller would like to do on a host: preflight asks it, an injection is made of it, and an order carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    pub fault: FaultKind,
    pub params: serde_json::Value,
    pub duration_ms: u64,
    pub seed: u64,
    /// Earlier wishes of the same question that may act at the same time, by their place in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<usize>,
    /// Nobody watches the run: a schedule started it.
    #[serde(default)]
    pub unattended: bool,
}

impl Injection {
    /// Whether it is meant to cut its host off from the controller: whatever the kind, the parameter is called so.
    pub fn silences_host(&self) -> bool {
        self.wish.params.get("isolating").and_then(serde_json::Value::as_bool) == Some(true)
    }
}

/// A host's answer to one wish, in the order they were asked; nothing was changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreflightAnswer {
    pub accepted: bool,
    #[serde(default)]
    pub refusals: Vec<Refusal>,
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How it would be undone, in words.
    #[serde(default)]
    pub undo: Vec<String>,
    /// What it would touch, in words: processes, interfaces, paths.
    #[serde(default)]
    pub touches: Vec<String>,
    #[serde(default)]
    pub engine: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleanliness {
    Clean,
    Faulted,
    Unproven,
    Dirty,
}

impl Cleanliness {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Faulted => "faulted",
            Self::Unproven => "unproven",
            Self::Dirty => "dirty",
        }
    }
}

/// A host's proof that nothing of ours is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanProof {
    pub result: Cleanliness,
    /// Things that carry an injection's id and are still there.
    pub owned_left: Vec<String>,
    /// Things a journalled undo names that do not read their value from before.
    pub not_restored: Vec<String>,
    /// Touched things that somebody else has changed since.
    pub drift: Vec<String>,
    pub consequences: Vec<String>,
    pub boot_id: String,
    /// Over the sorted lists above and the boot id.
    pub digest: String,
}

impl CleanProof {
    /// Clean exactly when nothing is owned and nothing is unrestored.
    pub fn of(owned_left: Vec<String>, not_restored: Vec<String>, drift: Vec<String>, consequences: Vec<String>, boot_id: &str) -> Self {
        let result = if owned_left.is_empty() && not_restored.is_empty() {
            Cleanliness::Clean
        } else {
            Cleanliness::Dirty
        };
        let text = format!("{owned_left:?}{not_restored:?}{drift:?}{consequences:?}{boot_id}");
        let digest = crate::id::sha256_text(text.as_bytes());
        Self {
            result,
            owned_left,
            not_restored,
            drift,
            consequences,
            boot_id: boot_id.to_owned(),
            digest,
        }
    }

    /// What a host that could not be asked is worth.
    pub fn unproven() -> Self {
        Self {
            result: Cleanliness::Unproven,
            owned_left: Vec::new(),
            not_restored: Vec::new(),
            drift: Vec::new(),
            consequences: Vec::new(),
            boot_id: String::new(),
            digest: String::new(),
        }
    }
}

/// An injection as a plan names it and a run carries it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Injection {
    pub id: InjectionId,
    pub step: String,
    pub host: HostName,
    /// What preflight asks for; here beside nothing, since the host knows what acts.
    #[serde(flatten)]
    pub wish: Wish,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored runs of every version say an injection so.
    #[test]
    fn an_injection_is_written_as_it_always_was() {
        let text = r#"{"id":"0000000000000001","step":"steps[0]","host":"web","fault":"network.delay","params":{"delay":"100ms"},"duration_ms":20000,"seed":18446744073709551615,"unattended":true}"#;
        let read: Injection = serde_json::from_str(text).unwrap();
        assert_eq!(read.wish.params["delay"], "100ms");
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
