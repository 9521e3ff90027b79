//! The closed vocabulary of ways back: plain data, so that another version's rescue can carry it out.

use std::fmt;

use proto_model::id::InjectionId;
use serde::{Deserialize, Serialize};

/// The recorded way back from one pull. Idempotent, touches only what carries our name or what it names, never flushes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub enum Undo {
    /// End everything in our group `fracas-<id>` and remove it from every hierarchy.
    EmptyGroup { group: String },
    /// Let the worker of our group `fracas-<id>` end by itself and let go of what it holds; what is left after that is ended by `EmptyGroup`.
    DrainGroup { group: String, within_ms: u64 },
    /// Let these go on, each only if it is still the same process and still stopped.
    ResumeProcesses { victims: Vec<Victim> },
    /// Write `before` back if the file still reads `ours`.
    RestoreKnob { path: String, ours: String, before: String },
    /// Remove the rules, sets and elements of our table that carry the injection's id.
    RemoveTraffic { injection: InjectionId },
}

/// A process acted upon, by pid and start time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    pub pid: u32,
    pub start_time: u64,
    pub name: String,
}

/// What carrying out an undo found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum UndoOutcome {
    Restored,
    /// Nothing was there any more; that is success.
    AlreadyGone,
    /// Somebody else has changed it since; it was left alone.
    Drift {
        what: Vec<String>,
    },
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyGroup { group } => write!(f, "end the processes of group {group} and remove it"),
            Self::DrainGroup { group, .. } => write!(f, "let the worker of group {group} end by itself"),
            Self::ResumeProcesses { victims } => {
                let names: Vec<String> = victims.iter().map(|v| format!("{} (pid {})", v.name, v.pid)).collect();
                write!(f, "resume {}", names.join(", "))
            }
            Self::RestoreKnob { path, before, .. } => write!(f, "write {before:?} back to {path}"),
            Self::RemoveTraffic { injection } => write!(f, "remove the network rules of {injection}"),
        }
    }
}
