//! What a journal says, record by record.

use proto_model::id::InjectionId;
use proto_model::injection::{AgentReport, EndedBy};
use serde::{Deserialize, Serialize};

use crate::undo::UndoOutcome;

/// The first record: which injection, and until when it may act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    pub injection: InjectionId,
    pub run: String,
    pub kind: String,
    pub params: serde_json::Value,
    pub boot_id: String,
    pub opened_boot_ms: u64,
    /// Boot time at which the duration is over; a restart never re-arms it.
    pub deadline_boot_ms: u64,
    pub plan_digest: String,
}

/// How an injection ended, in full, so that it can be told again until the controller has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub ended_by: EndedBy,
    pub undone_by: String,
    pub undo_ms: u64,
    pub drift: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record<U> {
    Opened(Opened),
    /// Written and synced before the pull it undoes.
    Intends {
        seq: u32,
        undo: U,
    },
    /// What is about to be done and has no way back: written and synced before the deed.
    Consequences {
        texts: Vec<String>,
    },
    Applied {
        effect: serde_json::Value,
    },
    /// From here on nothing is pulled again.
    Ending {
        ended_by: EndedBy,
    },
    Undone {
        seq: u32,
        outcome: UndoOutcome,
    },
    /// Reports that must survive us until the controller has settled them.
    Report(AgentReport),
    Closed(Outcome),
}
