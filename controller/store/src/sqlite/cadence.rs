//! Schedules, ticks and freezes on SQLite. The columns beside a record are what it is found and guarded by; the record says the same.

use proto_model::id::{FreezeId, ScheduleId};
use proto_model::schedule::TickState;
use proto_model::time::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

use super::transaction::{SqliteStore, Trouble};
use super::{codec, log};
use crate::cadence::{
    Cadence, FreezeRecord, ScheduleRecord, TickRecord, changed, considered_after, name_taken, no_schedule, settles, tick_taken, ticker,
};
use crate::records::{Actor, StoreError};

impl Cadence for SqliteStore {
    fn schedules(&mut self) -> Result<Vec<ScheduleRecord>, StoreError> {
        self.look("list schedules", |t| {
            codec::all(t, "a schedule", "SELECT record FROM schedules ORDER BY name", [])
        })
    }

    fn add_schedule(&mut self, schedule: &ScheduleRecord, actor: &Actor) -> Result<(), StoreError> {
        self.deed("add a schedule", |t| {
            if t.prepare_cached("SELECT 1 FROM schedules WHERE name = ?1")?
                .exists([&schedule.name])?
            {
                return Err(name_taken(&schedule.name).into());
            }
            put_schedule(t, schedule)?;
            log::fleet(t, &changed(schedule, "added"), actor, schedule.created_at)
        })
    }

    fn pause_schedule(&mut self, id: &ScheduleId, paused: bool, actor: &Actor, at: Timestamp) -> Result<ScheduleRecord, StoreError> {
        self.deed("pause or resume a schedule", |t| {
            let mut schedule = schedule(t, id)?;
            if schedule.paused != paused {
                schedule.considered_until = considered_after(&schedule, paused, at);
                schedule.paused = paused;
                put_schedule(t, &schedule)?;
                log::fleet(t, &changed(&schedule, if paused { "paused" } else { "resumed" }), actor, at)?;
            }
            Ok(schedule)
        })
    }

    fn remove_schedule(&mut self, id: &ScheduleId, actor: &Actor, at: Timestamp) -> Result<ScheduleRecord, StoreError> {
        self.deed("remove a schedule", |t| {
            let gone = schedule(t, id)?;
            t.prepare_cached("DELETE FROM schedules WHERE id = ?1")?.execute([id.as_str()])?;
            log::fleet(t, &changed(&gone, "removed"), actor, at)?;
            Ok(gone)
        })
    }

    fn record_ticks(&mut self, id: &ScheduleId, from: Timestamp, until: Timestamp, ticks: &[TickRecord]) -> Result<bool, StoreError> {
        self.deed("record ticks", |t| {
            let Some(mut schedule) = found(t, id)?.filter(|s| !s.paused && s.considered_until == from) else {
                return Ok(false);
            };
            schedule.considered_until = until;
            put_schedule(t, &schedule)?;
            for tick in ticks {
                insert(t, tick)?;
            }
            Ok(true)
        })
    }

    fn add_tick(&mut self, tick: &TickRecord) -> Result<(), StoreError> {
        self.deed(
            "add a tick",
            |t| if insert(t, tick)? { Ok(()) } else { Err(tick_taken(tick).into()) },
        )
    }

    fn settle_tick(&mut self, tick: &TickRecord) -> Result<(), StoreError> {
        self.deed("settle a tick", |t| {
            let old: Option<TickRecord> = codec::one(
                t,
                "a tick",
                "SELECT record FROM ticks WHERE schedule = ?1 AND planned_at = ?2",
                params![tick.schedule.as_str(), tick.planned_at.0],
            )?;
            if !settles(old.as_ref(), tick)? {
                return Ok(());
            }
            t.prepare_cached("UPDATE ticks SET due = 0, run = ?3, record = ?4 WHERE schedule = ?1 AND planned_at = ?2")?
                .execute(params![
                    tick.schedule.as_str(),
                    tick.planned_at.0,
                    tick.run.as_ref().map(|run| run.as_str()),
                    codec::write("a tick", tick)?
                ])?;
            log::fleet(t, &tick.event(), &ticker(tick), tick.decided_at)
        })
    }

    fn due_ticks(&mut self) -> Result<Vec<TickRecord>, StoreError> {
        self.look("list due ticks", |t| {
            codec::all(t, "a tick", "SELECT record FROM ticks WHERE due = 1 ORDER BY planned_at", [])
        })
    }

    fn ticks(&mut self, id: &ScheduleId, limit: u32) -> Result<Vec<TickRecord>, StoreError> {
        let sql = "SELECT record FROM ticks WHERE schedule = ?1 ORDER BY planned_at DESC LIMIT ?2";
        self.look("list ticks", |t| codec::all(t, "a tick", sql, params![id.as_str(), limit]))
    }

    fn last_started(&mut self, id: &ScheduleId) -> Result<Option<TickRecord>, StoreError> {
        let sql = "SELECT record FROM ticks WHERE schedule = ?1 AND run IS NOT NULL ORDER BY planned_at DESC LIMIT 1";
        self.look("find the last started tick", |t| codec::one(t, "a tick", sql, [id.as_str()]))
    }

    fn freezes(&mut self) -> Result<Vec<FreezeRecord>, StoreError> {
        self.look("list freezes", |t| {
            codec::all(t, "a freeze", "SELECT record FROM freezes ORDER BY start, id", [])
        })
    }

    fn change_freezes(&mut self, add: &[FreezeRecord], remove: &[FreezeId], actor: &Actor, at: Timestamp) -> Result<(), StoreError> {
        self.deed("change freezes", |t| {
            for id in remove {
                let gone: Option<FreezeRecord> =
                    codec::one(t, "a freeze", "DELETE FROM freezes WHERE id = ?1 RETURNING record", [id.as_str()])?;
                let gone = gone.ok_or_else(|| StoreError::NotFound {
                    what: "freeze",
                    name: id.to_string(),
                })?;
                log::fleet(t, &gone.event("removed"), actor, at)?;
            }
            for freeze in add {
                t.prepare_cached("INSERT INTO freezes (id, start, record) VALUES (?1, ?2, ?3)")?
                    .execute(params![freeze.id.as_str(), freeze.from.0, codec::write("a freeze", freeze)?])?;
                log::fleet(t, &freeze.event("added"), actor, at)?;
            }
            Ok(())
        })
    }
}

fn found(t: &Transaction<'_>, id: &ScheduleId) -> Result<Option<ScheduleRecord>, Trouble> {
    codec::one(t, "a schedule", "SELECT record FROM schedules WHERE id = ?1", [id.as_str()])
}

fn schedule(t: &Transaction<'_>, id: &ScheduleId) -> Result<ScheduleRecord, Trouble> {
    Ok(found(t, id)?.ok_or_else(|| no_schedule(id.as_str()))?)
}

fn put_schedule(t: &Transaction<'_>, schedule: &ScheduleRecord) -> Result<(), Trouble> {
    t.prepare_cached("INSERT OR REPLACE INTO schedules (id, name, considered_until, paused, record) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            schedule.id.as_str(),
            schedule.name,
            schedule.considered_until.0,
            schedule.paused,
            codec::write("a schedule", schedule)?
        ])?;
    Ok(())
}

/// False when there is a tick of that time already.
fn insert(t: &Transaction<'_>, tick: &TickRecord) -> Result<bool, Trouble> {
    let known: Option<i64> = t
        .prepare_cached("SELECT 1 FROM ticks WHERE schedule = ?1 AND planned_at = ?2")?
        .query_row(params![tick.schedule.as_str(), tick.planned_at.0], |row| row.get(0))
        .optional()?;
    if known.is_some() {
        return Ok(false);
    }
    t.prepare_cached("INSERT INTO ticks (schedule, planned_at, due, run, record) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            tick.schedule.as_str(),
            tick.planned_at.0,
            tick.state == TickState::Due,
            tick.run.as_ref().map(|run| run.as_str()),
            codec::write("a tick", tick)?
        ])?;
    log::fleet(t, &tick.event(), &ticker(tick), tick.decided_at)?;
    Ok(true)
}
