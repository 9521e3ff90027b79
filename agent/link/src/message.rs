//! What the agent sends to a session: first what it needs to begin, then answers, reports, names to resolve, and at the end that it may leave.

use std::path::PathBuf;

use proto_model::injection::AgentReport;
use proto_model::peer::Network;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a session is told before it gives up its rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The user and group that it becomes.
    pub uid: u32,
    pub gid: u32,
    /// Where its identity lies, for messages: it is the folder in which it is started, which nobody else may enter.
    pub identity: PathBuf,
    /// Below this folder of each control group hierarchy the agent's groups are made.
    pub group_root: PathBuf,
    /// Networks that probes may ask, all ordinary ones when there are none, and those that they may not.
    pub probes_allow: Vec<Network>,
    pub probes_deny: Vec<Network>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    Setup(Setup),
    /// To the request of this number.
    Answer {
        id: u64,
        body: Value,
    },
    Report(Box<AgentReport>),
    Resolve {
        question: u64,
        name: String,
    },
    /// Everything is undone and reported.
    Leave,
}

impl Message {
    pub fn answer(id: u64, body: &impl Serialize) -> Self {
        Self::Answer {
            id,
            body: serde_json::to_value(body).unwrap_or(Value::Null),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }
}

/// The answer to a request whose answers are of this type.
pub(crate) fn body<T: DeserializeOwned>(body: Value) -> Option<T> {
    serde_json::from_value(body)
        .inspect_err(|error| tracing::error!(%error, "an answer of the agent cannot be read"))
        .ok()
}
