//! What any store of Fracas must do; one contract suite tests every implementation. Events are the truth.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::catalogue::Catalogue;
use proto_model::event::{Event, FleetEvent, FleetEventBody, NewEvent};
use proto_model::evidence::Publication;
use proto_model::halt::HaltState;
use proto_model::host::{HostFacts, Membership};
use proto_model::id::{HostName, PlanDigest, RunId, TokenId};
use proto_model::injection::Cleanliness;
use proto_model::plan::PlanView;
use proto_model::role::Role;
use proto_model::service::ServiceRecord;
use proto_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cadence::Cadence;
use crate::summaries::Summaries;

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
    pub facts: HostFacts,
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

/// Every method is one transaction: on disk when it returns, or nothing.
pub trait Store: Send + Cadence + Summaries {
    /// Appends with dense numbers; the first append of a run makes it. A fact already stored for the same
    /// (injection, boot, agent_seq) is left out of the answer and not stored twice.
    fn append(&mut self, run: &RunId, events: Vec<NewEvent>) -> Result<Vec<Event>, StoreError>;
    /// Events with seq >= `from_seq`, in order.
    fn run_events(&mut self, run: &RunId, from_seq: u64) -> Result<Vec<Event>, StoreError>;
    /// Newest first.
    fn runs(&mut self, limit: u32, unfinished_only: bool) -> Result<Vec<RunRow>, StoreError>;
    /// An id, a unique prefix of 6 or more, or `@last`.
    fn find_run(&mut self, text: &str) -> Result<RunId, StoreError>;
    /// The run accepted under this key, if any.
    fn run_by_key(&mut self, idempotency_key: &str) -> Result<Option<RunId>, StoreError>;

    fn save_plan(&mut self, plan: &PlanView) -> Result<(), StoreError>;
    fn plan(&mut self, digest: &PlanDigest) -> Result<Option<PlanView>, StoreError>;
    /// Forgets the plans that were made before then and that no run used; what a run used stays. Returns how many.
    fn forget_plans(&mut self, made_before: Timestamp) -> Result<usize, StoreError>;

    fn hosts(&mut self) -> Result<Vec<HostRecord>, StoreError>;
    /// Those that hosts have, by their digests.
    fn catalogues(&mut self) -> Result<Vec<Catalogue>, StoreError>;
    /// Kept until the last host that has it has another one; store the host next.
    fn put_catalogue(&mut self, catalogue: &Catalogue) -> Result<(), StoreError>;
    fn host(&mut self, name: &HostName) -> Result<Option<HostRecord>, StoreError>;
    /// Inserts or replaces, together with its fleet event.
    fn put_host(&mut self, host: &HostRecord, event: FleetEventBody, actor: &Actor, at: Timestamp) -> Result<(), StoreError>;

    fn add_token(&mut self, token: &TokenRecord, actor: &Actor) -> Result<(), StoreError>;
    fn tokens(&mut self) -> Result<Vec<TokenRecord>, StoreError>;
    /// Checks the secret in constant time, the expiry, the revocation and the count, and takes one use.
    fn spend_token(&mut self, id: &TokenId, secret: &str, now: Timestamp) -> Result<TokenRecord, StoreError>;
    fn revoke_token(&mut self, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<TokenRecord, StoreError>;

    fn add_operator(&mut self, operator: &OperatorRecord, actor: &Actor) -> Result<(), StoreError>;
    fn operators(&mut self) -> Result<Vec<OperatorRecord>, StoreError>;
    fn revoke_operator(&mut self, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<OperatorRecord, StoreError>;
    /// Remembers that the token was used; an unknown one changes nothing.
    fn operator_used(&mut self, id: &TokenId, at: Timestamp) -> Result<(), StoreError>;

    fn fleet(&mut self, event: FleetEventBody, actor: &Actor, at: Timestamp) -> Result<(), StoreError>;
    /// Newest last, at most `limit` from the end.
    fn fleet_events(&mut self, limit: u32) -> Result<Vec<FleetEvent>, StoreError>;

    /// In the order of their names.
    fn services(&mut self) -> Result<Vec<ServiceRecord>, StoreError>;
    /// Inserts or replaces.
    fn put_service(&mut self, service: &ServiceRecord, actor: &Actor) -> Result<(), StoreError>;
    /// Its runs and publications stay.
    fn remove_service(&mut self, name: &str, actor: &Actor, at: Timestamp) -> Result<(), StoreError>;
    /// In the order they were made.
    fn publications(&mut self) -> Result<Vec<Publication>, StoreError>;
    fn add_publication(&mut self, publication: &Publication, actor: &Actor) -> Result<(), StoreError>;

    fn halt(&mut self) -> Result<HaltState, StoreError>;
    fn set_halt(&mut self, halt: &HaltState, actor: &Actor) -> Result<(), StoreError>;

    /// The time of this opening, and later than every one before: hosts refuse what an earlier opening orders. A restored copy
    /// cannot repeat one that was given out after it was made.
    fn epoch(&mut self) -> Result<u64, StoreError>;
}

pub(crate) fn no_service(name: &str) -> StoreError {
    StoreError::NotFound {
        what: "service",
        name: name.to_owned(),
    }
}
