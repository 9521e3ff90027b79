//! Finished runs on SQLite: each slice is one index, walked from a moment on.

use proto_model::finished::{FINISHED_RUN_VERSION, FinishedRun};
use proto_model::history::{ListedRun, Moment, Places, RunMonth, Slice, Tally};
use proto_model::id::RunId;
use proto_model::time::Timestamp;
use rusqlite::{Connection, Params, Transaction, params};

use super::log::{last_seq, run_id};
use super::transaction::{SqliteStore, Trouble};
use super::{codec, months};
use crate::fact::no_run;
use crate::finished::{Finished, Keys};
use crate::records::StoreError;
use crate::summaries::decided;

const KEEP: &str = "INSERT INTO summaries (run, seq, service, name, decided_at, summary, worth, environment, ended_at, verdict, passed, \
    decided, production, shown, changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
    (SELECT coalesce(max(changed), 0) + 1 FROM summaries)) \
    ON CONFLICT (run) DO UPDATE SET seq = excluded.seq, service = excluded.service, name = excluded.name, \
    decided_at = excluded.decided_at, summary = excluded.summary, worth = excluded.worth, environment = excluded.environment, \
    ended_at = excluded.ended_at, verdict = excluded.verdict, passed = excluded.passed, decided = excluded.decided, \
    production = excluded.production, shown = excluded.shown, changed = excluded.changed WHERE summaries.seq <= excluded.seq";
const UP_TO_DATE: &str = concat!("UPDATE runs SET outdated = 0 WHERE id = ?1 AND ", last_seq!("runs"), " = ?2");
const OUTDATED: &str = "SELECT id FROM runs WHERE finished = 1 AND outdated = 1 ORDER BY made LIMIT ?1";
const TALLY: &str = "SELECT environment, verdict, decided, count(*) FROM summaries INDEXED BY summaries_in_environment \
    WHERE service = ?1 AND ended_at <= ?2 \
    GROUP BY environment, verdict, decided ORDER BY environment, verdict, decided";

impl Finished for SqliteStore {
    fn keep_all(&mut self, known: &[(RunId, u64, Option<FinishedRun>)]) -> Result<(), StoreError> {
        self.deed("keep what is known of finished runs", |t| {
            known.iter().try_for_each(|(run, seq, known)| keep(t, run, *seq, known.as_ref()))
        })
    }

    fn outdated(&mut self, limit: u32) -> Result<Vec<RunId>, StoreError> {
        self.look("find runs that are not read yet", |t| {
            let mut statement = t.prepare_cached(OUTDATED)?;
            let mut rows = statement.query([limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(run_id(row.get(0)?)?);
            }
            Ok(found)
        })
    }

    fn newest(&mut self, service: &str, slice: &Slice, before: &Moment, limit: u32) -> Result<Vec<FinishedRun>, StoreError> {
        self.walk(&newest_first(slice), service, slice, before, limit)
    }

    fn oldest(&mut self, service: &str, slice: &Slice, after: &Moment, limit: u32) -> Result<Vec<FinishedRun>, StoreError> {
        self.walk(&oldest_first(slice), service, slice, after, limit)
    }

    fn environments(&mut self, service: &str, of: &Places) -> Result<Vec<String>, StoreError> {
        let (sql, test) = next_place(of);
        self.look("find the environments of runs", |t| {
            let mut statement = t.prepare_cached(&sql)?;
            let (mut found, mut last) = (Vec::new(), String::new());
            while let Some(next) = statement.query_row(params![service, test, last], |row| row.get::<_, Option<String>>(0))? {
                found.push(next.clone());
                last = next;
            }
            Ok(found)
        })
    }

    fn tally(&mut self, service: &str, until: Timestamp) -> Result<Vec<Tally>, StoreError> {
        self.look("count runs", |t| {
            let mut statement = t.prepare_cached(TALLY)?;
            let rows = statement.query_map(params![service, until.0], |row| {
                Ok(Tally {
                    environment: row.get(0)?,
                    verdict: row.get(1)?,
                    decided: row.get(2)?,
                    runs: row.get::<_, i64>(3)?.cast_unsigned(),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn months(&mut self, service: &str) -> Result<Vec<RunMonth>, StoreError> {
        self.look("list months of runs", |t| months::all(t, service))
    }

    fn keep_months(&mut self, service: &str, made: &[RunMonth]) -> Result<(), StoreError> {
        self.deed("keep what was made of months", |t| months::keep(t, service, made))
    }

    fn runs_of_month(&mut self, service: &str, month: &RunMonth, before: &Moment, limit: u32) -> Result<Vec<ListedRun>, StoreError> {
        self.look("find the runs of a month", |t| months::runs(t, service, month, before, limit))
    }

    fn judged(&mut self) -> Result<u64, StoreError> {
        self.look("count runs", |t| {
            let count = t.query_row("SELECT count(*) FROM summaries", [], |row| row.get::<_, i64>(0))?;
            Ok(count.cast_unsigned())
        })
    }
}

impl SqliteStore {
    fn walk(&mut self, sql: &str, service: &str, slice: &Slice, from: &Moment, limit: u32) -> Result<Vec<FinishedRun>, StoreError> {
        let (one, other) = named(slice);
        self.look("find finished runs", |t| {
            rows(t, sql, params![service, one, other, from.ended_at.0, from.run, limit])
        })
    }
}

fn newest_first(slice: &Slice) -> String {
    format!(
        "SELECT summary, worth FROM summaries WHERE service = ?1 AND {} AND ended_at <= ?4 AND (ended_at, run) < (?4, ?5) \
        ORDER BY ended_at DESC, run DESC LIMIT ?6",
        condition(slice)
    )
}

fn oldest_first(slice: &Slice) -> String {
    format!(
        "SELECT summary, worth FROM summaries WHERE service = ?1 AND {} AND ended_at >= ?4 AND (ended_at, run) > (?4, ?5) \
        ORDER BY ended_at, run LIMIT ?6",
        condition(slice)
    )
}

/// The next environment after one, by a single look into an index, and the test that is asked for.
fn next_place(of: &Places) -> (String, &str) {
    let (condition, test) = match of {
        Places::All => ("ended_at IS NOT NULL", ""),
        Places::PassedElsewhere { test } => ("name = ?2 AND passed = 1 AND production = 0", test.as_str()),
        Places::Production => ("production = 1", ""),
    };
    let sql = format!("SELECT min(environment) FROM summaries WHERE service = ?1 AND {condition} AND environment > ?3");
    (sql, test)
}

fn condition(slice: &Slice) -> &'static str {
    match slice {
        Slice::All => "ended_at IS NOT NULL",
        Slice::In { .. } => "environment = ?3",
        Slice::Passed { .. } => "name = ?2 AND passed = 1",
        Slice::NotPassed { .. } => "name = ?2 AND passed = 0",
        Slice::Decided { .. } => "name = ?2 AND decided = 1",
        Slice::PassedElsewhere { .. } => "name = ?2 AND environment = ?3 AND passed = 1 AND production = 0",
        Slice::Production { .. } => "environment = ?3 AND production = 1",
        Slice::ShownInProduction { .. } => "environment = ?3 AND shown = 1",
    }
}

/// The test and the environment of a slice.
fn named(slice: &Slice) -> (&str, &str) {
    match slice {
        Slice::All => ("", ""),
        Slice::Passed { test } | Slice::NotPassed { test } | Slice::Decided { test } => (test, ""),
        Slice::PassedElsewhere { test, environment } => (test, environment),
        Slice::In { environment } | Slice::Production { environment } | Slice::ShownInProduction { environment } => ("", environment),
    }
}

fn rows(t: &Transaction<'_>, sql: &str, params: impl Params) -> Result<Vec<FinishedRun>, Trouble> {
    let mut statement = t.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |at| -> Result<&str, Trouble> { Ok(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?) };
        found.push(FinishedRun {
            summary: codec::read("a summary", text(0)?)?,
            worth: codec::read("what a run is worth", text(1)?)?,
        });
    }
    Ok(found)
}

fn keep(t: &Transaction<'_>, run: &RunId, seq: u64, known: Option<&FinishedRun>) -> Result<(), Trouble> {
    if !t.prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?.exists([run.as_str()])? {
        return Err(no_run(run.as_str()).into());
    }
    if let Some(known) = known {
        let (summary, keys) = (&known.summary, Keys::of(known));
        let keys = keys.as_ref();
        t.prepare_cached(KEEP)?.execute(params![
            run.as_str(),
            seq.cast_signed(),
            summary.service,
            summary.name,
            decided(summary).map(|decided| decided.at.0),
            codec::write("a summary", summary)?,
            codec::write("what a run is worth", &known.worth)?,
            summary.environment,
            keys.map(|k| k.ended_at.0),
            keys.map(|k| k.verdict.as_str()),
            keys.map(|k| k.passed),
            keys.map(|k| k.decided),
            keys.map(|k| k.production),
            keys.map(|k| k.shown),
        ])?;
    }
    t.prepare_cached(UP_TO_DATE)?.execute(params![run.as_str(), seq.cast_signed()])?;
    Ok(())
}

/// Rows that another version made are made again.
pub(super) fn outdate_other_versions(connection: &Connection) -> rusqlite::Result<()> {
    let made: u32 = connection.query_row("SELECT version FROM reading", [], |row| row.get(0))?;
    if made != FINISHED_RUN_VERSION {
        connection.execute("UPDATE runs SET outdated = 1 WHERE finished = 1", [])?;
        connection.execute("UPDATE reading SET version = ?1", [FINISHED_RUN_VERSION])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::{compact, log, months, summaries};

    /// How SQLite would carry it out, line by line.
    fn plan(store: &SqliteStore, sql: &str) -> Vec<String> {
        let mut statement = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let rows = statement.raw_query().mapped(|row| row.get(3));
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn every_look_walks_an_index_in_its_order_and_stops_at_its_limit() {
        let root = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(root.path().join("store.db")).unwrap();
        let (test, environment) = ("cache".to_owned(), "demo".to_owned());
        let in_both = Slice::PassedElsewhere {
            test: test.clone(),
            environment: environment.clone(),
        };
        let of_test = [
            Slice::Passed { test: test.clone() },
            Slice::NotPassed { test: test.clone() },
            Slice::Decided { test: test.clone() },
        ];
        let in_place = [
            Slice::In {
                environment: environment.clone(),
            },
            Slice::Production {
                environment: environment.clone(),
            },
        ];
        let shown = Slice::ShownInProduction { environment };
        let slices = of_test.into_iter().chain(in_place).chain([Slice::All, in_both, shown]);
        let looks = slices.flat_map(|slice| [newest_first(&slice), oldest_first(&slice)]);
        let places = [Places::All, Places::Production, Places::PassedElsewhere { test }].map(|places| next_place(&places).0);
        for sql in looks.chain(places).chain([OUTDATED.to_owned()]) {
            let plan = plan(&store, &sql);
            let walks = plan.len() == 1 && plan[0].contains(" INDEX ");
            assert!(walks, "{sql}: {plan:?}");
            // A range of moments, and not every run of the service.
            let starts = !sql.contains("ended_at <= ?4") && !sql.contains("ended_at >= ?4") || plan[0].contains("ended_at");
            assert!(starts, "{sql}: {plan:?}");
        }
        for (sql, range) in [
            (log::OF_PREFIX, "(id>? AND id<?)"),
            (months::RUNS, "(service=? AND ended_at>? AND ended_at<?)"),
            (log::UNFINISHED, "INDEX runs_unfinished"),
            (compact::NEXT, "INDEX runs_to_compact"),
            (summaries::UNFINISHED, "INDEX runs_unfinished"),
            (summaries::NEXT_TEST, "(service=? AND name>?)"),
            (summaries::NEXT_SERVICE, "(service>?)"),
            (summaries::LAST_DECIDED, "(service=? AND name=?"),
        ] {
            let plan = plan(&store, sql);
            let sorts = plan.iter().any(|step| step.contains("TEMP B-TREE"));
            assert!(plan[0].contains(" INDEX ") && plan[0].contains(range) && !sorts, "{sql}: {plan:?}");
        }
        let counts = plan(&store, TALLY);
        assert!(
            counts[0].contains("COVERING INDEX"),
            "no run itself is read to be counted: {counts:?}"
        );
    }
}
