//! The two logs, of runs and of the fleet: only ever added to. Nothing here updates or deletes an event; packed ones are read from their blocks.

use proto_model::event::{Event, FleetEvent, FleetEventBody, NewEvent};
use proto_model::id::RunId;
use proto_model::reading::Milestone;
use proto_model::time::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

use super::block::Block;
use super::codec;
use super::plans::plan_used;
use super::transaction::Trouble;
use crate::fact::{FactKey, LAST, judged_twice, key_taken, naming, no_run, numbered, plan_of, run_prefix, the_only_run};
use crate::records::{Actor, RunRow, StoreError};

/// Runs that an ambiguous prefix lists at most.
const CANDIDATES: u32 = 10;
pub(super) const RUNS: &str = "SELECT id, name, created_at, finished FROM runs ORDER BY made DESC LIMIT ?1";
pub(super) const UNFINISHED: &str = "SELECT id, name, created_at, finished FROM runs WHERE finished = 0 ORDER BY made DESC LIMIT ?1";
/// The number of a run's last event, as SQL that names the run by this table or alias; 0 of one without any.
macro_rules! last_seq {
    ($runs:literal) => {
        concat!(
            "coalesce((SELECT max(seq) FROM events WHERE run = ",
            $runs,
            ".id), (SELECT max(last) FROM blocks WHERE run = ",
            $runs,
            ".made), 0)"
        )
    };
}
pub(super) use last_seq;

const LAST_SEQ: &str = concat!("SELECT ", last_seq!("runs"), " FROM runs WHERE id = ?1");
const OF_RUN: &str = "SELECT event FROM events WHERE run = ?1 AND seq >= ?2 ORDER BY seq";
const BLOCKS: &str =
    "SELECT first, last, length, events FROM blocks WHERE run = (SELECT made FROM runs WHERE id = ?1) AND last >= ?2 ORDER BY last";
pub(super) const OF_PREFIX: &str = "SELECT id FROM runs WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3";

pub(super) fn append(t: &Transaction<'_>, run: &RunId, events: Vec<NewEvent>) -> Result<Vec<Event>, Trouble> {
    let Some(first) = events.first() else {
        return Ok(Vec::new());
    };
    let finished = open_run(t, run, first)?;
    let last: i64 = t.prepare_cached(LAST_SEQ)?.query_row([run.as_str()], |row| row.get(0))?;
    let mut next = last.cast_unsigned() + 1;
    let mut stored = Vec::with_capacity(events.len());
    for event in events {
        let key = FactKey::of(run, &event);
        if let Some(key) = &key
            && (is_known(t, key)? || finished && is_packed(t, key)?)
        {
            continue;
        }
        if event.body.milestone() == Some(Milestone::Judged) {
            close_run(t, run)?;
        }
        if let Some(digest) = plan_of(&event.body) {
            plan_used(t, digest)?;
        }
        let event = numbered(run, next, event);
        insert(t, &event, key.as_ref())?;
        stored.push(event);
        next += 1;
    }
    if !stored.is_empty() {
        outdate(t, run)?;
    }
    Ok(stored)
}

/// More of a run that is finished: what is kept of it no longer covers all.
fn outdate(t: &Transaction<'_>, run: &RunId) -> Result<(), Trouble> {
    t.prepare_cached("UPDATE runs SET outdated = 1 WHERE id = ?1 AND outdated = 0")?
        .execute([run.as_str()])?;
    Ok(())
}

/// Makes the run where it is new; whether it is finished.
fn open_run(t: &Transaction<'_>, run: &RunId, first: &NewEvent) -> Result<bool, Trouble> {
    let mut statement = t.prepare_cached("SELECT finished FROM runs WHERE id = ?1")?;
    let known = statement.query_row([run.as_str()], |row| row.get(0)).optional()?;
    if let Some(finished) = known {
        return Ok(finished);
    }
    let (name, key) = naming(run, &first.body);
    if let Some(key) = &key
        && let Some(other) = run_by_key(t, key)?
    {
        return Err(key_taken(key, other.as_str()).into());
    }
    t.prepare_cached("INSERT INTO runs (id, name, created_at, idempotency_key) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![run.as_str(), name, first.at.0, key])?;
    Ok(false)
}

fn close_run(t: &Transaction<'_>, run: &RunId) -> Result<(), Trouble> {
    let closed = t
        .prepare_cached("UPDATE runs SET finished = 1 WHERE id = ?1 AND finished = 0")?
        .execute([run.as_str()])?;
    if closed == 0 {
        return Err(judged_twice(run).into());
    }
    Ok(())
}

fn is_known(t: &Transaction<'_>, key: &FactKey) -> Result<bool, Trouble> {
    let mut statement =
        t.prepare_cached("SELECT 1 FROM events WHERE run = ?1 AND host = ?2 AND injection = ?3 AND boot_id = ?4 AND agent_seq = ?5")?;
    Ok(statement.exists(params![key.run, key.host, key.injection, key.boot_id, column(key.agent_seq)])?)
}

/// As `is_known`, of a fact whose event is in a block.
fn is_packed(t: &Transaction<'_>, key: &FactKey) -> Result<bool, Trouble> {
    let mut statement = t.prepare_cached("SELECT 1 FROM packed_facts WHERE run = (SELECT made FROM runs WHERE id = ?1) AND fact = ?2")?;
    Ok(statement.exists(params![key.run, key.digest()])?)
}

fn insert(t: &Transaction<'_>, event: &Event, key: Option<&FactKey>) -> Result<(), Trouble> {
    t.prepare_cached("INSERT INTO events (run, seq, event, host, injection, boot_id, agent_seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
            event.run_id.as_str(),
            column(event.seq),
            codec::write("an event", event)?,
            key.map(|k| &k.host),
            key.map(|k| &k.injection),
            key.map(|k| &k.boot_id),
            key.map(|k| column(k.agent_seq)),
        ])?;
    Ok(())
}

/// SQLite's integers are signed; the bits are kept, so that different numbers stay different.
fn column(number: u64) -> i64 {
    number.cast_signed()
}

pub(super) fn run_events(t: &Transaction<'_>, run: &RunId, from_seq: u64) -> Result<Vec<Event>, Trouble> {
    if !t.prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?.exists([run.as_str()])? {
        return Err(no_run(run.as_str()).into());
    }
    let from = i64::try_from(from_seq).unwrap_or(i64::MAX);
    let mut events = packed_events(t, run, from)?;
    events.extend(codec::all(t, "an event", OF_RUN, params![run.as_str(), from])?);
    Ok(events)
}

/// Those in blocks, which come before all that are in rows.
fn packed_events(t: &Transaction<'_>, run: &RunId, from: i64) -> Result<Vec<Event>, Trouble> {
    let mut statement = t.prepare_cached(BLOCKS)?;
    let mut rows = statement.query(params![run.as_str(), from])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let number = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
        let block = Block {
            first: number(0)?,
            last: number(1)?,
            length: number(2)?,
            gzip: row.get(3)?,
        };
        let read = block.events(run).map_err(|source| Trouble::Block {
            run: run.clone(),
            first: block.first,
            last: block.last,
            source,
        })?;
        events.extend(read.into_iter().filter(|event| event.seq >= from.cast_unsigned()));
    }
    Ok(events)
}

pub(super) fn runs(t: &Transaction<'_>, limit: u32, unfinished_only: bool) -> Result<Vec<RunRow>, Trouble> {
    let mut statement = t.prepare_cached(if unfinished_only { UNFINISHED } else { RUNS })?;
    let mut rows = statement.query([limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(RunRow {
            id: run_id(row.get(0)?)?,
            name: row.get(1)?,
            created_at: Timestamp(row.get(2)?),
            finished: row.get(3)?,
        });
    }
    Ok(found)
}

pub(super) fn find_run(t: &Transaction<'_>, text: &str) -> Result<RunId, Trouble> {
    if text.trim() == LAST {
        return Ok(runs(t, 1, false)?.into_iter().next().ok_or_else(|| no_run(LAST))?.id);
    }
    let prefix = run_prefix(text)?;
    // Nothing that begins with the prefix comes after it with the last of all characters.
    let end = format!("{prefix}{}", char::MAX);
    let mut statement = t.prepare_cached(OF_PREFIX)?;
    let mut rows = statement.query(params![prefix, end, CANDIDATES])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(run_id(row.get(0)?)?);
    }
    Ok(the_only_run(prefix, found)?)
}

pub(super) fn run_by_key(t: &Transaction<'_>, key: &str) -> Result<Option<RunId>, Trouble> {
    let mut statement = t.prepare_cached("SELECT id FROM runs WHERE idempotency_key = ?1")?;
    let found: Option<String> = statement.query_row([key], |row| row.get(0)).optional()?;
    found.map(run_id).transpose()
}

pub(super) fn run_id(text: String) -> Result<RunId, Trouble> {
    let damaged = |e: proto_model::id::InvalidId| StoreError::Damaged(e.to_string());
    RunId::parse(&text).map_err(|e| Trouble::Answer(damaged(e)))
}

pub(super) fn fleet(t: &Transaction<'_>, body: &FleetEventBody, actor: &Actor, at: Timestamp) -> Result<(), Trouble> {
    let seq: Option<i64> = t.prepare_cached("SELECT max(seq) FROM fleet")?.query_row([], |row| row.get(0))?;
    let event = FleetEvent {
        seq: seq.unwrap_or(0).cast_unsigned() + 1,
        at,
        by: actor.by.clone(),
        address: actor.address.clone(),
        body: body.clone(),
    };
    t.prepare_cached("INSERT INTO fleet (seq, event) VALUES (?1, ?2)")?
        .execute(params![column(event.seq), codec::write("a fleet event", &event)?])?;
    Ok(())
}

pub(super) fn fleet_events(t: &Transaction<'_>, limit: u32) -> Result<Vec<FleetEvent>, Trouble> {
    codec::all(
        t,
        "a fleet event",
        "SELECT event FROM (SELECT seq, event FROM fleet ORDER BY seq DESC LIMIT ?1) ORDER BY seq",
        [limit],
    )
}
