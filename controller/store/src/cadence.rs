//! What any store keeps of a cadence: schedules, their ticks and freezes. It knows no calendar and decides no tick.

use std::collections::BTreeMap;

use proto_model::event::FleetEventBody;
use proto_model::id::{FreezeId, RunId, ScheduleId};
use proto_model::schedule::{MissedRule, SkipReason, TickState};
use proto_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::records::{Actor, StoreError};

/// What the keys of ticks begin with; nobody else may use such a key.
pub const TICK_KEYS: &str = "tick:";

/// A schedule as it was added: texts that were understood then, and are understood again when they are used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    pub id: ScheduleId,
    /// One schedule at a time has it.
    pub name: String,
    pub file_text: String,
    pub file_name: String,
    pub set: BTreeMap<String, String>,
    /// The experiment's own name, service and environment, from the file.
    pub experiment: String,
    pub service: Option<String>,
    pub environment: Option<String>,
    pub cron: String,
    pub timezone: String,
    pub window: Option<String>,
    pub missed: MissedRule,
    /// The environment's name as it was typed when the schedule was added.
    pub confirm: String,
    pub paused: bool,
    pub created_at: Timestamp,
    pub created_by: String,
    /// Every planned time up to here has become a tick; none after it has.
    pub considered_until: Timestamp,
}

/// One planned time of a schedule and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickRecord {
    pub schedule: ScheduleId,
    /// The schedule's name then.
    pub name: String,
    /// With the schedule, the tick's identity.
    pub planned_at: Timestamp,
    /// How many planned times this stands for: more than 1 only where several were missed in a row.
    pub count: u32,
    /// A person asked for it now.
    pub manual: bool,
    pub by: String,
    pub state: TickState,
    pub reason: Option<SkipReason>,
    pub message: Option<String>,
    pub run: Option<RunId>,
    /// When it came to its present state.
    pub decided_at: Timestamp,
}

impl TickRecord {
    /// The idempotency key of the run that this tick starts: a second start under it is the first one.
    pub fn key(&self) -> String {
        format!("{TICK_KEYS}{}:{}", self.schedule, self.planned_at.0)
    }

    pub(crate) fn event(&self) -> FleetEventBody {
        FleetEventBody::ScheduleTick {
            schedule: self.name.clone(),
            planned_at: self.planned_at,
            state: self.state,
            reason: self.reason,
            run: self.run.clone(),
        }
    }
}

/// A time in which no scheduled run starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeRecord {
    pub id: FreezeId,
    pub from: Timestamp,
    /// The first moment that is free again.
    pub until: Timestamp,
    pub reason: String,
    /// `None`: every environment.
    pub environment: Option<String>,
    /// The calendar it was imported from.
    pub calendar: Option<String>,
    pub created_at: Timestamp,
    pub created_by: String,
}

impl FreezeRecord {
    pub(crate) fn event(&self, change: &str) -> FleetEventBody {
        FleetEventBody::FreezeChanged {
            id: self.id.to_string(),
            change: change.to_owned(),
            from: self.from,
            until: self.until,
            reason: self.reason.clone(),
            environment: self.environment.clone(),
        }
    }
}

/// The part of a store that a cadence needs; part of the same contract. Every method is one transaction, fleet events included.
pub trait Cadence {
    /// By name.
    fn schedules(&mut self) -> Result<Vec<ScheduleRecord>, StoreError>;
    /// Refused when the name is taken.
    fn add_schedule(&mut self, schedule: &ScheduleRecord, actor: &Actor) -> Result<(), StoreError>;
    /// What was planned for the time of a pause never becomes a tick.
    fn pause_schedule(&mut self, id: &ScheduleId, paused: bool, actor: &Actor, at: Timestamp) -> Result<ScheduleRecord, StoreError>;
    /// Its ticks stay.
    fn remove_schedule(&mut self, id: &ScheduleId, actor: &Actor, at: Timestamp) -> Result<ScheduleRecord, StoreError>;
    /// Stores new ticks and moves `considered_until` from `from` to `until`. False, and nothing stored, when it is not at `from`
    /// any more or the schedule is paused or gone: somebody else has decided. A tick that is stored already is left as it is.
    fn record_ticks(&mut self, id: &ScheduleId, from: Timestamp, until: Timestamp, ticks: &[TickRecord]) -> Result<bool, StoreError>;
    /// Stores a tick that a person asked for; refused when there is one of that time.
    fn add_tick(&mut self, tick: &TickRecord) -> Result<(), StoreError>;
    /// What became of a due tick; refused when something else has already become of it.
    fn settle_tick(&mut self, tick: &TickRecord) -> Result<(), StoreError>;
    /// Every tick that is due, oldest first.
    fn due_ticks(&mut self) -> Result<Vec<TickRecord>, StoreError>;
    /// Newest first.
    fn ticks(&mut self, id: &ScheduleId, limit: u32) -> Result<Vec<TickRecord>, StoreError>;
    /// The newest tick of the schedule that started a run.
    fn last_started(&mut self, id: &ScheduleId) -> Result<Option<TickRecord>, StoreError>;

    /// By their beginnings.
    fn freezes(&mut self) -> Result<Vec<FreezeRecord>, StoreError>;
    /// All of it or nothing; an id that is not there is refused.
    fn change_freezes(&mut self, add: &[FreezeRecord], remove: &[FreezeId], actor: &Actor, at: Timestamp) -> Result<(), StoreError>;
}

/// Whoever ticks, in the fleet log.
pub(crate) fn ticker(tick: &TickRecord) -> Actor {
    Actor {
        by: tick.by.clone(),
        address: String::new(),
    }
}

pub(crate) fn changed(schedule: &ScheduleRecord, change: &str) -> FleetEventBody {
    FleetEventBody::ScheduleChanged {
        schedule: schedule.name.clone(),
        id: schedule.id.to_string(),
        change: change.to_owned(),
    }
}

pub(crate) fn no_schedule(name: &str) -> StoreError {
    StoreError::NotFound {
        what: "schedule",
        name: name.to_owned(),
    }
}

pub(crate) fn name_taken(name: &str) -> StoreError {
    StoreError::Refused(format!(
        "add schedule {name}: the name is taken; choose another, or remove that schedule first"
    ))
}

pub(crate) fn tick_taken(tick: &TickRecord) -> StoreError {
    StoreError::Refused(format!("add a tick of {} at {}: there is one already", tick.name, tick.planned_at))
}

/// Whether `new` may follow `old`; the same end told twice is fine and changes nothing.
pub(crate) fn settles(old: Option<&TickRecord>, new: &TickRecord) -> Result<bool, StoreError> {
    let refuse = |why: String| {
        Err(StoreError::Refused(format!(
            "settle the tick of {} at {}: {why}",
            new.name, new.planned_at
        )))
    };
    match old {
        None => refuse("it was never due".to_owned()),
        Some(_) if new.state == TickState::Due => refuse("due is no end".to_owned()),
        Some(old) if old.state == TickState::Due => Ok(true),
        Some(old) if (old.state, &old.run) == (new.state, &new.run) => Ok(false),
        Some(old) => refuse(format!("it is {} already", old.state.as_str())),
    }
}

/// The moment from which planned times count after a pause or its end.
pub(crate) fn considered_after(schedule: &ScheduleRecord, paused: bool, at: Timestamp) -> Timestamp {
    if paused {
        schedule.considered_until
    } else {
        schedule.considered_until.max(at)
    }
}
