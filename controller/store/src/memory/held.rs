//! What the store that forgets holds, and how it finds it.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::catalogue::Catalogue;
use proto_model::event::{Event, FleetEvent, FleetEventBody, NewEvent};
use proto_model::evidence::Publication;
use proto_model::finished::FinishedRun;
use proto_model::halt::HaltState;
use proto_model::history::RunMonth;
use proto_model::id::{HostName, PlanDigest, RunId, ScheduleId};
use proto_model::plan::PlanView;
use proto_model::service::ServiceRecord;
use proto_model::time::Timestamp;

use crate::cadence::{FreezeRecord, ScheduleRecord, TickRecord, no_schedule};
use crate::fact::{FactKey, key_taken, naming};
use crate::records::{Actor, HostRecord, OperatorRecord, RunRow, StoreError, TokenRecord};

#[derive(Default)]
pub struct MemoryStore {
    /// Oldest first.
    pub(super) runs: Vec<Run>,
    pub(super) facts: BTreeSet<FactKey>,
    pub(super) plans: BTreeMap<PlanDigest, PlanView>,
    pub(super) hosts: BTreeMap<HostName, HostRecord>,
    pub(super) catalogues: BTreeMap<String, Catalogue>,
    /// Oldest first.
    pub(super) tokens: Vec<TokenRecord>,
    /// Oldest first.
    pub(super) operators: Vec<OperatorRecord>,
    pub(super) fleet: Vec<FleetEvent>,
    pub(super) halt: Option<HaltState>,
    pub(super) cadence: Shelf,
    /// With the last event that each covers.
    pub(super) summaries: BTreeMap<RunId, (u64, FinishedRun)>,
    /// Finished runs of which nothing is to be known, by their last event.
    pub(super) passed_over: BTreeMap<RunId, u64>,
    /// By service and beginning.
    pub(super) months: BTreeMap<(String, Timestamp), RunMonth>,
    pub(super) services: BTreeMap<String, ServiceRecord>,
    pub(super) publications: Vec<Publication>,
}

#[derive(Clone)]
pub(super) struct Run {
    pub(super) row: RunRow,
    pub(super) key: Option<String>,
    pub(super) events: Vec<Event>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn run_at(&self, id: &RunId) -> Option<usize> {
        self.runs.iter().position(|run| &run.row.id == id)
    }

    pub(super) fn log(&mut self, body: FleetEventBody, actor: &Actor, at: Timestamp) {
        self.fleet.push(FleetEvent {
            seq: self.fleet.len() as u64 + 1,
            at,
            by: actor.by.clone(),
            address: actor.address.clone(),
            body,
        });
    }

    /// The run as it would be before these events: the one on record, or a new one.
    pub(super) fn opened(&self, id: &RunId, first: &NewEvent) -> Result<Run, StoreError> {
        if let Some(at) = self.run_at(id) {
            return Ok(self.runs[at].clone());
        }
        let (name, key) = naming(id, &first.body);
        if let Some(key) = &key
            && let Some(other) = self.runs.iter().find(|run| run.key.as_ref() == Some(key))
        {
            return Err(key_taken(key, other.row.id.as_str()));
        }
        let row = RunRow {
            id: id.clone(),
            name,
            created_at: first.at,
            finished: false,
        };
        let events = Vec::new();
        Ok(Run { row, key, events })
    }
}

#[derive(Default)]
pub(super) struct Shelf {
    /// By name.
    pub(super) schedules: BTreeMap<String, ScheduleRecord>,
    pub(super) ticks: BTreeMap<(ScheduleId, Timestamp), TickRecord>,
    pub(super) freezes: Vec<FreezeRecord>,
}

impl Shelf {
    pub(super) fn named(&mut self, id: &ScheduleId) -> Result<&mut ScheduleRecord, StoreError> {
        let found = self.schedules.values_mut().find(|s| &s.id == id);
        found.ok_or_else(|| no_schedule(id.as_str()))
    }
}
