//! Compaction against a twin that keeps everything as it came, with damage, failures in the middle and an old schema.

use std::path::Path;

use proptest::prelude::*;
use proto_model::event::{Event, NewEvent};
use proto_model::id::{InjectionId, RunId};
use rusqlite::Connection;

use super::super::open::MIGRATIONS;
use super::super::transaction::Also;
use super::*;
use crate::contract::{self, finished_run, note, notes, undone};
use crate::{Finished, MemoryStore, Store};

/// Any run that has its verdict, whether or not it is known in short.
const FINISHED: &str = "SELECT made, id FROM runs WHERE finished = 1 AND compacted = 0 ORDER BY made LIMIT 1";

struct Given {
    store: SqliteStore,
    folder: tempfile::TempDir,
}

fn given() -> Given {
    let folder = tempfile::tempdir().unwrap();
    let store = quick(&folder.path().join("store.db"));
    Given { store, folder }
}

/// No test here ends its machine, so that none has to wait for the disk.
fn quick(path: &Path) -> SqliteStore {
    let store = SqliteStore::open(path).unwrap();
    store.connection.pragma_update(None, "synchronous", "OFF").unwrap();
    store
}

impl Given {
    fn count(&self, sql: &str) -> i64 {
        self.store.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// A finished run that is known in short.
    fn run(&mut self) -> (RunId, Vec<Event>) {
        let run = RunId::generate();
        let mut events = finished_run();
        events.splice(1..1, notes(40, 200));
        let stored = self.store.append(&run, events).unwrap();
        self.store.keep_finished(&run, stored.len() as u64, None).unwrap();
        (run, stored)
    }

    fn compact(&mut self) {
        while self.store.compact(1 << 20).unwrap() > 0 {}
    }
}

#[test]
fn a_store_that_compacts_at_each_write_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let made = std::cell::Cell::new(0);
    let steps: [Also; 2] = [|t| step(t, FINISHED, 1).map(drop), |t| step(t, FINISHED, 1 << 20).map(drop)];
    for step in steps {
        contract::run(|| {
            made.set(made.get() + 1);
            let mut store = quick(&root.path().join(format!("{}.db", made.get())));
            store.before_commit = Some(step);
            Box::new(store)
        });
    }
}

#[derive(Debug, Clone)]
enum Call {
    Append { run: usize, events: Vec<(u8, u64)> },
    Judge { run: usize },
    Keep { run: usize },
    Compact { text: usize },
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let run = 0..3_usize;
    let events = proptest::collection::vec((0..4_u8, 0..6_u64), 1..12);
    let call = prop_oneof![
        4 => (run.clone(), events).prop_map(|(run, events)| Call::Append { run, events }),
        1 => run.clone().prop_map(|run| Call::Judge { run }),
        2 => run.prop_map(|run| Call::Keep { run }),
        3 => (1..3_000_usize).prop_map(|text| Call::Compact { text }),
    ];
    proptest::collection::vec(call, 1..40)
}

fn made_of((kind, number): (u8, u64), injection: &InjectionId) -> NewEvent {
    match kind {
        0 => note(&"x".repeat(number as usize * 100)),
        1 => undone(injection, "boot-a", number),
        2 => undone(injection, "boot-b", number),
        _ => {
            let mut other = undone(injection, "boot-a", number);
            other.by = "another-host".into();
            other
        }
    }
}

fn carry_out(store: &mut dyn Store, call: &Call, runs: &[RunId], injection: &InjectionId) -> String {
    match call {
        Call::Append { run, events } => {
            let events = events.iter().map(|of| made_of(*of, injection)).collect();
            format!("{:?}", store.append(&runs[*run], events))
        }
        Call::Judge { run } => format!("{:?}", store.append(&runs[*run], finished_run().split_off(1))),
        Call::Keep { run } => {
            let last = store.run_events(&runs[*run], 1).map_or(0, |events| events.len() as u64);
            format!("{:?}", store.keep_finished(&runs[*run], last, None))
        }
        Call::Compact { text } => {
            store.compact(*text).unwrap();
            String::new()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_answers_like_a_store_that_never_compacts(calls in calls()) {
        let (mut given, mut twin) = (given(), MemoryStore::new());
        let (runs, injection) = ([(); 3].map(|()| RunId::generate()), InjectionId::generate());
        for call in &calls {
            let answer = carry_out(&mut given.store, call, &runs, &injection);
            prop_assert_eq!(answer, carry_out(&mut twin, call, &runs, &injection));
            for run in &runs {
                for from in [0, 1, 2, 5, 20, u64::MAX] {
                    let (read, expected) = (given.store.run_events(run, from), twin.run_events(run, from));
                    prop_assert_eq!(format!("{read:?}"), format!("{expected:?}"));
                }
            }
            let pages = |store: &mut dyn Store| format!("{:?} {:?}", store.run_pages(9, false), store.outdated(9));
            prop_assert_eq!(pages(&mut given.store), pages(&mut twin));
        }
    }
}

#[test]
fn a_compacted_run_is_in_no_row_and_takes_a_fraction_of_the_space() {
    let mut given = given();
    let runs: Vec<_> = (0..20).map(|_| given.run()).collect();
    let before = given.count("SELECT sum(length(event)) FROM events");
    assert_eq!(given.store.compact(1).unwrap(), 1, "a step ends with the run that fills it");
    assert_eq!(given.store.compact(1 << 20).unwrap(), RUNS, "a step is of so many runs at most");
    given.compact();
    assert_eq!(given.count("SELECT count(*) FROM events"), 0);
    assert_eq!(given.count("SELECT count(*) FROM runs WHERE compacted = 0"), 0);
    assert_eq!(given.count("SELECT sum(length) FROM blocks"), before + 20 * 42);
    let after = given.count("SELECT sum(length(events)) FROM blocks");
    assert!(after * 8 < before, "{before} bytes became {after}");
    for (run, events) in runs {
        assert_eq!(given.store.run_events(&run, 1).unwrap(), events);
    }
}

#[test]
fn a_large_run_becomes_several_blocks_one_a_step() {
    let mut given = given();
    let (run, events) = given.run();
    for steps in 1.. {
        assert_eq!(given.store.compact(1_000).unwrap(), 1);
        assert_eq!(given.count("SELECT count(*) FROM blocks"), steps);
        assert!(given.count("SELECT max(length) FROM blocks") < 2_000);
        assert_eq!(given.store.run_events(&run, 1).unwrap(), events);
        if given.count("SELECT count(*) FROM events") == 0 {
            break;
        }
    }
    assert!(given.count("SELECT count(*) FROM blocks") > 5);
    assert_eq!(given.store.compact(1_000).unwrap(), 0);
}

#[test]
fn a_damaged_block_is_an_error_that_names_the_run() {
    let damages = [
        "UPDATE blocks SET events = CAST(substr(events, 1, 40) || x'ff00' || substr(events, 43) AS BLOB)",
        "UPDATE blocks SET events = CAST(substr(events, 1, length(events) - 8) || zeroblob(8) AS BLOB)",
        "UPDATE blocks SET events = substr(events, 1, length(events) / 2)",
        "UPDATE blocks SET events = x''",
        "UPDATE blocks SET length = length - 1",
        "UPDATE blocks SET last = last + 1",
        "UPDATE blocks SET first = first + 1",
    ];
    for damage in damages {
        let mut given = given();
        let (run, _) = given.run();
        given.compact();
        given.store.connection.execute_batch(damage).unwrap();
        let (whole, events) = given.run();
        given.compact();
        for from in [1, 30] {
            let error = given.store.run_events(&run, from).unwrap_err();
            assert!(matches!(error, StoreError::Damaged(_)), "{damage}: {error}");
            let message = error.to_string();
            assert!(message.contains(run.as_str()) && message.contains("backup"), "{damage}: {message}");
        }
        assert_eq!(given.store.run_events(&whole, 1).unwrap(), events, "{damage}: others are read");
    }
    let mut given = given();
    let (run, _) = given.run();
    let (other, _) = given.run();
    given.compact();
    let exchange = "UPDATE blocks SET events = (SELECT events FROM blocks ORDER BY run DESC LIMIT 1)";
    given.store.connection.execute_batch(exchange).unwrap();
    assert!(given.store.run_events(&run, 1).is_err(), "events of another run are not its own");
    assert!(given.store.run_events(&other, 1).is_ok());
}

#[test]
fn a_step_that_fails_in_the_middle_leaves_everything_as_it_was() {
    let mut given = given();
    let (run, events) = given.run();
    let refuse = "CREATE TEMP TRIGGER refuse BEFORE DELETE ON events WHEN old.seq = 40 BEGIN SELECT RAISE(ABORT, 'no more'); END";
    given.store.connection.execute_batch(refuse).unwrap();
    let error = given.store.compact(1 << 20).unwrap_err().to_string();
    assert!(error.starts_with("compact finished runs"), "{error}");
    assert_eq!(given.count("SELECT count(*) FROM blocks"), 0);
    assert_eq!(given.count("SELECT count(*) FROM events"), 42);
    assert_eq!(given.store.run_events(&run, 1).unwrap(), events);
    given.store.connection.execute_batch("DROP TRIGGER refuse").unwrap();
    assert_eq!(given.store.compact(1 << 20).unwrap(), 1);
    assert_eq!(given.store.run_events(&run, 1).unwrap(), events);
}

#[test]
fn a_run_that_cannot_be_read_back_stays_in_rows_and_holds_up_no_other() {
    let changes = [
        "UPDATE events SET event = '{' WHERE seq = 3",
        "UPDATE events SET event = json_set(event, '$.seq', 9) WHERE seq = 3",
        "DELETE FROM events WHERE seq = 3",
    ];
    for change in changes {
        let mut given = given();
        let (run, _) = given.run();
        given.store.connection.execute_batch(change).unwrap();
        let before = format!("{:?}", given.store.run_events(&run, 1));
        let (whole, events) = given.run();
        given.compact();
        assert_eq!(format!("{:?}", given.store.run_events(&run, 1)), before, "{change}");
        assert_eq!(given.count("SELECT count(*) FROM blocks"), 1, "{change}");
        assert_eq!(given.store.run_events(&whole, 1).unwrap(), events);
    }
}

#[test]
fn nothing_is_compacted_before_the_file_is_checked() {
    let mut given = given();
    given.run();
    let check = std::mem::take(&mut given.store.check);
    assert_eq!(given.store.compact(1 << 20).unwrap(), 0);
    drop(given.store.check.set(Err("a page is damaged".into())));
    assert!(matches!(given.store.compact(1 << 20), Err(StoreError::Damaged(_))));
    given.store.check = check;
    assert_eq!(given.store.compact(1 << 20).unwrap(), 1);
}

#[test]
fn finished_runs_of_an_older_store_are_compacted_after_it_is_opened() {
    let mut new = given();
    let (run, events) = new.run();
    let injection = InjectionId::generate();
    let facts = new.store.append(&run, vec![undone(&injection, "boot", 1)]).unwrap();
    let old_path = new.folder.path().join("old.db");
    let old = Connection::open(&old_path).unwrap();
    // The version before blocks.
    MIGRATIONS[..10].iter().for_each(|migration| old.execute_batch(migration).unwrap());
    old.pragma_update(None, "user_version", 10).unwrap();
    old.execute("ATTACH ?1 AS new", [new.folder.path().join("store.db").to_str().unwrap()])
        .unwrap();
    old.execute_batch(
        "INSERT INTO runs SELECT made, id, name, created_at, finished, idempotency_key, outdated FROM new.runs;
        INSERT INTO events SELECT * FROM new.events;
        UPDATE reading SET version = (SELECT version FROM new.reading)",
    )
    .unwrap();
    drop(old);
    let expected: Vec<Event> = events.into_iter().chain(facts).collect();
    let mut store = SqliteStore::open(&old_path).unwrap();
    assert_eq!(store.run_events(&run, 1).unwrap(), expected);
    assert_eq!(store.compact(1 << 20).unwrap(), 0, "it is read first");
    store.keep_finished(&run, expected.len() as u64, None).unwrap();
    assert_eq!(store.compact(1 << 20).unwrap(), 1);
    drop(store);
    let mut store = SqliteStore::open(&old_path).unwrap();
    let rows: i64 = store
        .connection
        .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 0);
    assert_eq!(store.run_events(&run, 1).unwrap(), expected);
    assert_eq!(store.append(&run, vec![undone(&injection, "boot", 1)]).unwrap(), []);
}
