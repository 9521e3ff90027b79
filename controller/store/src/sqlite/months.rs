//! Months of runs on SQLite. Triggers of the table of runs forget what was made of a month as one of its runs changes.

use proto_model::finished::FinishedRun;
use proto_model::history::{ListedRun, Moment, RunMonth};
use proto_model::time::Timestamp;
use rusqlite::{Transaction, params};

use super::codec;
use super::transaction::Trouble;

const MONTHS: &str = "SELECT since, until, version, made FROM months WHERE service = ?1 ORDER BY since DESC";
const KEEP: &str = "UPDATE months SET made = ?4 WHERE service = ?1 AND since = ?2 AND version = ?3";
pub(super) const RUNS: &str = "SELECT summary, worth, seq FROM summaries WHERE service = ?1 AND ended_at IS NOT NULL AND ended_at >= ?2 \
    AND ended_at <= ?3 AND (ended_at, run) < (?3, ?4) ORDER BY ended_at DESC, run DESC LIMIT ?5";

pub(super) fn all(t: &Transaction<'_>, service: &str) -> Result<Vec<RunMonth>, Trouble> {
    let mut statement = t.prepare_cached(MONTHS)?;
    let months = statement.query_map([service], |row| {
        Ok(RunMonth {
            since: Timestamp(row.get(0)?),
            until: Timestamp(row.get(1)?),
            version: row.get::<_, i64>(2)?.cast_unsigned(),
            made: row.get(3)?,
        })
    })?;
    Ok(months.collect::<Result<_, _>>()?)
}

pub(super) fn keep(t: &Transaction<'_>, service: &str, made: &[RunMonth]) -> Result<(), Trouble> {
    for month in made {
        t.prepare_cached(KEEP)?
            .execute(params![service, month.since.0, month.version.cast_signed(), month.made])?;
    }
    Ok(())
}

pub(super) fn runs(t: &Transaction<'_>, service: &str, month: &RunMonth, before: &Moment, limit: u32) -> Result<Vec<ListedRun>, Trouble> {
    let mut statement = t.prepare_cached(RUNS)?;
    let end = before.clone().min(Moment::start_of(month.until));
    let mut rows = statement.query(params![service, month.since.0, end.ended_at.0, end.run, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |at| -> Result<&str, Trouble> { Ok(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?) };
        found.push(ListedRun {
            events: row.get::<_, i64>(2)?.cast_unsigned(),
            known: FinishedRun {
                summary: codec::read("a summary", text(0)?)?,
                worth: codec::read("what a run is worth", text(1)?)?,
            },
        });
    }
    Ok(found)
}
