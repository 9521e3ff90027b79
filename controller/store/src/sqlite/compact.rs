//! Packs the events of finished runs into blocks, a bounded step at a time. What readers get does not change by it.

use proto_model::id::RunId;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::block::{Block, BlockError};
use super::log::run_id;
use super::transaction::{SqliteStore, Trouble};
use crate::fact::FactKey;
use crate::records::StoreError;

/// Runs of one step: small ones cost more for each byte of their text.
const RUNS: usize = 16;
/// The next run to be compacted: it has its verdict, and what is kept of it covers its last event.
pub(super) const NEXT: &str = "SELECT made, id FROM runs WHERE finished = 1 AND outdated = 0 AND compacted = 0 ORDER BY made LIMIT 1";
const ROWS: &str = "SELECT seq, event, host, injection, boot_id, agent_seq FROM events WHERE run = ?1 ORDER BY seq";

impl SqliteStore {
    pub(super) fn compact_step(&mut self, text: usize) -> Result<usize, StoreError> {
        // Nothing is deleted from a file that may still prove damaged.
        let checked = self.check.get().is_some();
        if !checked || self.look("find runs to compact", |t| next(t, NEXT))?.is_none() {
            return Ok(0);
        }
        self.deed("compact finished runs", |t| step(t, NEXT, text))
    }
}

/// Packs about so many bytes of text; of how many runs.
pub(super) fn step(t: &Transaction<'_>, wanted: &str, text: usize) -> Result<usize, Trouble> {
    let (mut runs, mut packed) = (0, 0);
    while runs < RUNS && (runs == 0 || packed < text) {
        let Some(run) = next(t, wanted)? else { break };
        packed += pack(t, &run, text)?;
        runs += 1;
    }
    Ok(runs)
}

struct Wanted {
    made: i64,
    id: RunId,
}

fn next(t: &Transaction<'_>, wanted: &str) -> Result<Option<Wanted>, Trouble> {
    let named = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let found: Option<(i64, String)> = t.prepare_cached(wanted)?.query_row([], named).optional()?;
    found.map(|(made, id)| Ok(Wanted { made, id: run_id(id)? })).transpose()
}

/// The oldest events of a run that are in rows.
#[derive(Default)]
struct Rows {
    /// The number of the first and of the last of them.
    seqs: Option<(i64, i64)>,
    text: String,
    facts: Vec<FactKey>,
    /// There are others after them.
    more: bool,
}

/// Packs the oldest rows of the run into one block; how many bytes of text they were.
fn pack(t: &Transaction<'_>, run: &Wanted, text: usize) -> Result<usize, Trouble> {
    let rows = oldest(t, &run.id, text)?;
    let mut more = rows.more;
    if let Some((first, last)) = rows.seqs {
        match readable_block(first, last, &rows.text, &run.id) {
            Ok(block) => replace(t, run, &block, &rows.facts)?,
            Err(error) => {
                tracing::warn!(run = %run.id, first, last, %error, "the run's events cannot be read back from a block; they stay as they are");
                more = false;
            }
        }
    }
    if !more {
        t.prepare_cached("UPDATE runs SET compacted = 1 WHERE made = ?1")?
            .execute([run.made])?;
    }
    Ok(rows.text.len())
}

/// At least one, if there is any, and more until the text has that length.
fn oldest(t: &Transaction<'_>, run: &RunId, text: usize) -> Result<Rows, Trouble> {
    let mut statement = t.prepare_cached(ROWS)?;
    let mut rows = statement.query([run.as_str()])?;
    let mut found = Rows::default();
    while let Some(row) = rows.next()? {
        if found.seqs.is_some() && found.text.len() >= text {
            found.more = true;
            break;
        }
        let seq = row.get(0)?;
        found.seqs = Some((found.seqs.map_or(seq, |(first, _)| first), seq));
        found.text.push_str(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
        found.text.push('\n');
        found.facts.extend(fact(row, run)?);
    }
    Ok(found)
}

fn fact(row: &Row<'_>, run: &RunId) -> rusqlite::Result<Option<FactKey>> {
    let Some(injection) = row.get(3)? else { return Ok(None) };
    Ok(Some(FactKey {
        run: run.to_string(),
        host: row.get(2)?,
        injection,
        boot_id: row.get(4)?,
        agent_seq: row.get::<_, i64>(5)?.cast_unsigned(),
    }))
}

/// A block that gives back what went into it, read as a reader reads it.
fn readable_block(first: i64, last: i64, text: &str, run: &RunId) -> Result<Block, BlockError> {
    let block = Block::pack(first.cast_unsigned(), last.cast_unsigned(), text)?;
    block.events(run)?;
    Ok(block)
}

fn replace(t: &Transaction<'_>, run: &Wanted, block: &Block, facts: &[FactKey]) -> Result<(), Trouble> {
    let (first, last) = (block.first.cast_signed(), block.last.cast_signed());
    t.prepare_cached("INSERT INTO blocks (run, first, last, length, events) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![run.made, first, last, block.length.cast_signed(), block.gzip])?;
    for fact in facts {
        t.prepare_cached("INSERT OR IGNORE INTO packed_facts (run, fact) VALUES (?1, ?2)")?
            .execute(params![run.made, fact.digest()])?;
    }
    t.prepare_cached("DELETE FROM events WHERE run = ?1 AND seq <= ?2")?
        .execute(params![run.id.as_str(), last])?;
    Ok(())
}

#[cfg(test)]
mod tests;
