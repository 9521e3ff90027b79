//! What a store keeps beside its events, who changes it, and what can go wrong. It knows no store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto_model::host::{HostAuthority, HostFacts, Membership};
use proto_model::id::{HostName, RunId, TokenId};
use proto_model::injection::Cleanliness;
use proto_model::role::Role;
use proto_model::time::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{deed}: {source}")]
    Backend {
        deed: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database failed its integrity check, or holds what this version cannot read.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    #[error("the store was made by a newer version (schema {found}, this version knows {known})")]
    Newer { found: u32, known: u32 },
    #[error("no {what} named {name:?}")]
    NotFound { what: &'static str, name: String },
    #[error("{name:?} could be {}", candidates.join(", "))]
    Ambiguous { name: String, candidates: Vec<String> },
    #[error("{0}")]
    Refused(String),
    #[error("the store has stopped")]
    Stopped,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    pub id: RunId,
    pub name: String,
    pub created_at: Timestamp,
    /// A `run.judged` is stored.
    pub finished: bool,
}

/// What must survive a restart about a host. Connection and heartbeats are memory, never here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostRecord {
    pub name: HostName,
    pub labels: BTreeMap<String, String>,
    /// Keys that an operator set or removed: what a token says of them counts no more.
    #[serde(default)]
    pub operator_labels: BTreeSet<String>,
    pub facts: Arc<HostFacts>,
    /// Of what it can do; the catalogue itself is kept once for all hosts that have it.
    pub catalogue_digest: String,
    pub membership: Membership,
    pub cordoned: Option<String>,
    /// Why its identity may do nothing.
    #[serde(default)]
    pub locked: Option<String>,
    pub cleanliness: Cleanliness,
    /// Residue in words, when dirty.
    pub residue: Vec<String>,
    /// SHA-256 of the host's public key: renewals must show the same.
    pub key_fingerprint: String,
    pub certificate_not_after: Timestamp,
    #[serde(default)]
    pub authority: HostAuthority,
    pub enrolled_at: Timestamp,
    /// When this machine, by its key, first had the name: it proves nothing for runs before that.
    #[serde(default)]
    pub machine_since: Timestamp,
    pub last_boot_id: String,
}

/// A join token as stored: the secret only as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub id: TokenId,
    pub secret_hash: String,
    pub labels: BTreeMap<String, String>,
    pub uses: u32,
    pub used: u32,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked: bool,
    pub created_by: String,
    /// The host whose place its bearer takes, under a key of its own.
    #[serde(default)]
    pub replaces: Option<HostName>,
}

/// An operator's token as stored: the secret only as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRecord {
    pub id: TokenId,
    /// Whom it makes its bearer; several tokens may make the same.
    pub name: String,
    pub role: Role,
    pub secret_hash: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked: bool,
    pub created_by: String,
    /// Coarsely: a call does not cost a write.
    pub last_used: Option<Timestamp>,
}

/// Who did it and where from, for the fleet log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub by: String,
    pub address: String,
}

pub(crate) fn no_service(name: &str) -> StoreError {
    StoreError::NotFound {
        what: "service",
        name: name.to_owned(),
    }
}
