//! Schedules, ticks and freezes of the store that forgets; held to the same contract as the real ones.

use proto_model::id::{FreezeId, ScheduleId};
use proto_model::schedule::TickState;
use proto_model::time::Timestamp;

use super::held::MemoryStore;
use crate::cadence::{
    Cadence, FreezeRecord, ScheduleRecord, TickRecord, changed, considered_after, name_taken, settles, tick_taken, ticker,
};
use crate::records::{Actor, StoreError};

impl MemoryStore {
    fn insert_tick(&mut self, tick: &TickRecord) -> bool {
        let place = (tick.schedule.clone(), tick.planned_at);
        if self.cadence.ticks.contains_key(&place) {
            return false;
        }
        self.cadence.ticks.insert(place, tick.clone());
        self.log(tick.event(), &ticker(tick), tick.decided_at);
        true
    }
}

impl Cadence for MemoryStore {
    fn schedules(&mut self) -> Result<Vec<ScheduleRecord>, StoreError> {
        Ok(self.cadence.schedules.values().cloned().collect())
    }

    fn add_schedule(&mut self, schedule: &ScheduleRecord, actor: &Actor) -> Result<(), StoreError> {
        if self.cadence.schedules.contains_key(&schedule.name) {
            return Err(name_taken(&schedule.name));
        }
        self.cadence.schedules.insert(schedule.name.clone(), schedule.clone());
        self.log(changed(schedule, "added"), actor, schedule.created_at);
        Ok(())
    }

    fn pause_schedule(&mut self, id: &ScheduleId, paused: bool, actor: &Actor, at: Timestamp) -> Result<ScheduleRecord, StoreError> {
        let schedule = self.cadence.named(id)?;
        if schedule.paused == paused {
            return Ok(schedule.clone());
        }
        schedule.considered_until = considered_after(schedule, paused, at);
        schedule.paused = paused;
        let after = schedule.clone();
        self.log(changed(&after, if paused { "paused" } else { "resumed" }), actor, at);
        Ok(after)
    }

    fn remove_schedule(&mut self, id: &ScheduleId, actor: &Actor, at: Timestamp) -> Result<ScheduleRecord, StoreError> {
        let gone = self.cadence.named(id)?.clone();
        self.cadence.schedules.remove(&gone.name);
        self.log(changed(&gone, "removed"), actor, at);
        Ok(gone)
    }

    fn record_ticks(&mut self, id: &ScheduleId, from: Timestamp, until: Timestamp, ticks: &[TickRecord]) -> Result<bool, StoreError> {
        match self.cadence.named(id) {
            Ok(schedule) if !schedule.paused && schedule.considered_until == from => schedule.considered_until = until,
            _ => return Ok(false),
        }
        for tick in ticks {
            self.insert_tick(tick);
        }
        Ok(true)
    }

    fn add_tick(&mut self, tick: &TickRecord) -> Result<(), StoreError> {
        if self.insert_tick(tick) { Ok(()) } else { Err(tick_taken(tick)) }
    }

    fn settle_tick(&mut self, tick: &TickRecord) -> Result<(), StoreError> {
        let place = (tick.schedule.clone(), tick.planned_at);
        if settles(self.cadence.ticks.get(&place), tick)? {
            self.cadence.ticks.insert(place, tick.clone());
            self.log(tick.event(), &ticker(tick), tick.decided_at);
        }
        Ok(())
    }

    fn due_ticks(&mut self) -> Result<Vec<TickRecord>, StoreError> {
        let mut due: Vec<TickRecord> = self.cadence.ticks.values().filter(|t| t.state == TickState::Due).cloned().collect();
        due.sort_by_key(|tick| tick.planned_at);
        Ok(due)
    }

    fn ticks(&mut self, id: &ScheduleId, limit: u32) -> Result<Vec<TickRecord>, StoreError> {
        let mine = self.cadence.ticks.values().rev().filter(|tick| &tick.schedule == id);
        Ok(mine.take(limit as usize).cloned().collect())
    }

    fn last_started(&mut self, id: &ScheduleId) -> Result<Option<TickRecord>, StoreError> {
        let mut mine = self.cadence.ticks.values().rev().filter(|tick| &tick.schedule == id);
        Ok(mine.find(|tick| tick.run.is_some()).cloned())
    }

    fn freezes(&mut self) -> Result<Vec<FreezeRecord>, StoreError> {
        let mut freezes = self.cadence.freezes.clone();
        freezes.sort_by(|a, b| (a.from, &a.id).cmp(&(b.from, &b.id)));
        Ok(freezes)
    }

    fn change_freezes(&mut self, add: &[FreezeRecord], remove: &[FreezeId], actor: &Actor, at: Timestamp) -> Result<(), StoreError> {
        let mut gone = Vec::new();
        for id in remove {
            let found = self.cadence.freezes.iter().find(|freeze| &freeze.id == id).cloned();
            gone.push(found.ok_or_else(|| StoreError::NotFound {
                what: "freeze",
                name: id.to_string(),
            })?);
        }
        self.cadence.freezes.retain(|freeze| !remove.contains(&freeze.id));
        self.cadence.freezes.extend_from_slice(add);
        gone.iter().for_each(|freeze| self.log(freeze.event("removed"), actor, at));
        add.iter().for_each(|freeze| self.log(freeze.event("added"), actor, at));
        Ok(())
    }
}
