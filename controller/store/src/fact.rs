//! Rules of the log that every store shares: what makes a fact the same fact, what names a run. It stores nothing.

use proto_model::event::{Event, EventBody, FleetEventBody, NewEvent, SCHEMA_VERSION};
use proto_model::id::{LENGTH, PlanDigest, RunId, TokenId};
use sha2::{Digest, Sha256};

use crate::records::{OperatorRecord, StoreError};

/// Shortest prefix of an id that may stand for it.
pub(crate) const MIN_PREFIX: usize = 6;
/// The word for the newest run.
pub(crate) const LAST: &str = "@last";

/// What a repeated fact has in common with the first report of it: another host, or another run, never has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FactKey {
    pub run: String,
    pub host: String,
    pub injection: String,
    pub boot_id: String,
    pub agent_seq: u64,
}

impl FactKey {
    /// `None` for what no agent repeats: decisions, and facts about no injection.
    pub fn of(run: &RunId, event: &NewEvent) -> Option<Self> {
        let source = event.source.as_ref()?;
        Some(Self {
            run: run.to_string(),
            host: event.by.clone(),
            injection: event.body.injection()?.to_string(),
            boot_id: source.boot_id.clone(),
            agent_seq: source.agent_seq,
        })
    }

    /// What stands for it within its run once its event is in a block.
    pub fn digest(&self) -> [u8; 16] {
        let mut hash = Sha256::new();
        for part in [&self.host, &self.injection, &self.boot_id] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(self.agent_seq.to_le_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&hash.finalize()[..16]);
        short
    }
}

pub(crate) fn numbered(run: &RunId, seq: u64, event: NewEvent) -> Event {
    Event {
        run_id: run.clone(),
        seq,
        version: SCHEMA_VERSION,
        at: event.at,
        by: event.by,
        source: event.source,
        body: event.body,
    }
}

/// What a run is called and under which key it was accepted, from its first event.
pub(crate) fn naming(run: &RunId, body: &EventBody) -> (String, Option<String>) {
    match body.accepted() {
        Some(accepted) => (accepted.plan.name.clone(), accepted.idempotency_key.map(str::to_owned)),
        None => (run.to_string(), None),
    }
}

/// The plan that this event says a run uses.
pub(crate) fn plan_of(body: &EventBody) -> Option<&PlanDigest> {
    body.accepted().map(|accepted| accepted.digest)
}

pub(crate) fn key_taken(key: &str, by: &str) -> StoreError {
    StoreError::Refused(format!("accept the run: the idempotency key {key:?} already belongs to run {by}"))
}

pub(crate) fn judged_twice(run: &RunId) -> StoreError {
    StoreError::Refused(format!("judge run {run}: it has a verdict, and the first verdict is final"))
}

/// The prefix to look for, or why the text cannot name a run.
pub(crate) fn run_prefix(text: &str) -> Result<&str, StoreError> {
    let text = text.trim();
    if text.len() < MIN_PREFIX {
        return Err(StoreError::Refused(format!(
            "run {text:?}: give the id, at least {MIN_PREFIX} of its first characters, or {LAST}"
        )));
    }
    if text.len() > LENGTH {
        return Err(no_run(text));
    }
    Ok(text)
}

pub(crate) fn the_only_run(text: &str, mut found: Vec<RunId>) -> Result<RunId, StoreError> {
    match found.len() {
        0 => Err(no_run(text)),
        1 => Ok(found.remove(0)),
        _ => Err(StoreError::Ambiguous {
            name: text.to_owned(),
            candidates: found.iter().map(RunId::to_string).collect(),
        }),
    }
}

pub(crate) fn no_run(text: &str) -> StoreError {
    StoreError::NotFound {
        what: "run",
        name: text.to_owned(),
    }
}

pub(crate) fn no_operator(id: &TokenId) -> StoreError {
    StoreError::NotFound {
        what: "operator's token",
        name: id.to_string(),
    }
}

pub(crate) fn created(operator: &OperatorRecord) -> FleetEventBody {
    FleetEventBody::OperatorCreated {
        id: operator.id.to_string(),
        name: operator.name.clone(),
        role: operator.role,
        expires_at: operator.expires_at,
    }
}

pub(crate) fn revoked(operator: &OperatorRecord) -> FleetEventBody {
    FleetEventBody::OperatorRevoked {
        id: operator.id.to_string(),
        name: operator.name.clone(),
    }
}

/// Whether the latch may move from one record to another: its epoch only grows, and one epoch has one meaning.
pub(crate) fn halt_moves(old: &proto_model::halt::HaltState, new: &proto_model::halt::HaltState) -> Result<bool, StoreError> {
    if old == new {
        return Ok(false);
    }
    if new.epoch > old.epoch {
        return Ok(true);
    }
    Err(StoreError::Refused(format!(
        "record the halt: epoch {} is not newer than epoch {} on record",
        new.epoch, old.epoch
    )))
}
