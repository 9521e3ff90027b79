//! Summaries of runs on SQLite: one row a finished run, good only while it covers the run's last event.

use proto_model::id::RunId;
use proto_model::summary::RunSummary;
use proto_model::time::Timestamp;
use rusqlite::{OptionalExtension, Params, Row, Transaction, params};

use super::codec;
use super::log::{last_seq, run_id};
use super::transaction::{SqliteStore, Trouble};
use crate::fact::no_run;
use crate::records::{RunRow, StoreError};
use crate::summaries::{DecidedTest, RunPage, Summaries, decided};

/// Runs with their summaries, as SQL that goes on with which of them.
macro_rules! pages {
    ($which:literal) => {
        concat!(
            "SELECT r.id, r.name, r.created_at, r.finished, ",
            last_seq!("r"),
            ", s.seq, s.summary FROM runs r LEFT JOIN summaries s ON s.run = r.id ",
            $which
        )
    };
}
const PAGES: &str = pages!("ORDER BY r.made DESC LIMIT ?1");
pub(super) const UNFINISHED: &str = pages!("WHERE r.finished = 0 ORDER BY r.made DESC LIMIT ?1");
const FINISHED: &str = pages!("WHERE r.finished = 1 AND r.made < ?1 ORDER BY r.made DESC LIMIT ?2");
const OWING: &str = "SELECT run FROM summaries WHERE unclean > 0 UNION ALL SELECT id FROM (SELECT id FROM runs r WHERE finished = 1 \
    AND outdated = 1 AND NOT EXISTS (SELECT 1 FROM summaries s WHERE s.run = r.id) ORDER BY made DESC LIMIT ?1)";
/// The next name of a service after one.
pub(super) const NEXT_TEST: &str =
    "SELECT service, name FROM summaries WHERE decided_at IS NOT NULL AND service IS ?1 AND name > ?2 ORDER BY name LIMIT 1";
/// The first name of the next service; of none comes before all of them.
pub(super) const NEXT_SERVICE: &str =
    "SELECT service, name FROM summaries WHERE decided_at IS NOT NULL AND service > ?1 ORDER BY service, name LIMIT 1";
pub(super) const LAST_DECIDED: &str =
    "SELECT summary FROM summaries WHERE decided_at IS NOT NULL AND service IS ?1 AND name = ?2 ORDER BY decided_at DESC, run DESC LIMIT 1";

impl Summaries for SqliteStore {
    fn run_pages(&mut self, limit: u32, unfinished_only: bool) -> Result<Vec<RunPage>, StoreError> {
        let sql = if unfinished_only { UNFINISHED } else { PAGES };
        self.look("list runs", |t| pages(t, sql, [limit]))
    }

    fn finished_before(&mut self, run: Option<&RunId>, limit: u32) -> Result<Vec<RunPage>, StoreError> {
        self.look("list finished runs", |t| {
            let end = match run {
                Some(run) => made(t, run)?,
                None => i64::MAX,
            };
            pages(t, FINISHED, params![end, limit])
        })
    }

    fn summary_of(&mut self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        let sql = "SELECT summary FROM summaries WHERE run = ?1";
        self.look("read a summary", |t| codec::one(t, "a summary", sql, [run.as_str()]))
    }

    fn runs_owing_proof(&mut self, unsaid: u32) -> Result<Vec<RunId>, StoreError> {
        self.look("find runs that lack a proof", |t| {
            let mut statement = t.prepare_cached(OWING)?;
            let mut rows = statement.query([unsaid])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(run_id(row.get(0)?)?);
            }
            Ok(found)
        })
    }

    fn last_decided(&mut self) -> Result<Vec<DecidedTest>, StoreError> {
        self.look("find the last decided runs", |t| {
            let (mut found, mut last) = (Vec::new(), (None, String::new()));
            while let Some((service, name)) = test_after(t, &last)? {
                let summary: Option<RunSummary> = codec::one(t, "a summary", LAST_DECIDED, params![service, name])?;
                found.extend(summary.as_ref().and_then(decided).map(|decided| DecidedTest {
                    service: service.clone(),
                    experiment: name.clone(),
                    decided,
                }));
                last = (service, name);
            }
            Ok(found)
        })
    }
}

/// A service, if any, and the name of one of its tests.
type Test = (Option<String>, String);

fn test_after(t: &Transaction<'_>, (service, name): &Test) -> Result<Option<Test>, Trouble> {
    let named = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let next = t.prepare_cached(NEXT_TEST)?.query_row(params![service, name], named).optional()?;
    if next.is_some() {
        return Ok(next);
    }
    let service = service.as_deref().unwrap_or_default();
    Ok(t.prepare_cached(NEXT_SERVICE)?.query_row([service], named).optional()?)
}

fn made(t: &Transaction<'_>, run: &RunId) -> Result<i64, Trouble> {
    let mut statement = t.prepare_cached("SELECT made FROM runs WHERE id = ?1")?;
    let made: Option<i64> = statement.query_row([run.as_str()], |row| row.get(0)).optional()?;
    Ok(made.ok_or_else(|| no_run(run.as_str()))?)
}

fn pages(t: &Transaction<'_>, sql: &str, params: impl Params) -> Result<Vec<RunPage>, Trouble> {
    let mut statement = t.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let last: i64 = row.get(4)?;
        let covered: Option<i64> = row.get(5)?;
        let text: Option<String> = row.get(6)?;
        let text = text.filter(|_| covered == Some(last));
        found.push(RunPage {
            row: RunRow {
                id: run_id(row.get(0)?)?,
                name: row.get(1)?,
                created_at: Timestamp(row.get(2)?),
                finished: row.get(3)?,
            },
            last_seq: last.cast_unsigned(),
            // One that this version cannot read is made again.
            summary: text.and_then(|text| codec::read("a summary", &text).ok()),
        });
    }
    Ok(found)
}
