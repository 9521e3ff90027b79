//! What was answered as stored is there after the writer was killed, and after an ordinary end. It kills only its own children.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use controller_store::{Finished, SqliteStore, Store, contract};
use proto_model::event::Event;
use proto_model::id::RunId;

const PLACE: &str = "FRACAS_TEST_STORE";
const RUN: &str = "0123456789abcdef";
/// Set for the child that compacts.
const COMPACTS: &str = "FRACAS_TEST_COMPACTS";

/// Not a test of its own: the child that writes until it is killed. Without the variable it has nothing to do.
#[test]
fn child_writer() {
    let Ok(path) = std::env::var(PLACE) else { return };
    let mut store = SqliteStore::open(path).unwrap();
    let run = RunId::parse(RUN).unwrap();
    let mut out = std::io::stdout();
    if std::env::var_os(COMPACTS).is_some() {
        while store.compact(2_000).unwrap() > 0 {
            writeln!(out, "stored 1").unwrap();
            out.flush().unwrap();
        }
        return;
    }
    loop {
        for event in store.append(&run, contract::notes(2, 300)).unwrap() {
            writeln!(out, "stored {}", event.seq).unwrap();
        }
        out.flush().unwrap();
    }
}

/// Kills a writer after it printed `enough` lines; answers the last number that it had printed.
fn killed_writer(path: &Path, enough: usize, compacts: bool) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writer", "--nocapture", "--test-threads=1"])
        .env(PLACE, path)
        .envs(compacts.then_some((COMPACTS, "1")))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut printed = 0;
    let mut last = 0;
    for line in lines.map_while(Result::ok) {
        let Some((_, seq)) = line.split_once("stored ") else { continue };
        last = seq.parse().unwrap();
        printed += 1;
        if printed == enough {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(printed >= enough, "the writer ended by itself after {printed} events");
    last
}

#[test]
fn nothing_that_was_answered_is_lost_by_a_kill() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let run = RunId::parse(RUN).unwrap();
    let mut epoch = 0;
    for enough in [1, 8, 21] {
        let last = killed_writer(&path, enough, false);
        let mut store = SqliteStore::open(&path).unwrap();
        let seqs: Vec<u64> = store.run_events(&run, 1).unwrap().iter().map(|e| e.seq).collect();
        assert!(seqs.len() as u64 >= last, "{last} was answered, {} are there", seqs.len());
        assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "the numbers have holes: {seqs:?}");
        assert_eq!(seqs.len() % 2, 0, "half of a transaction is there");
        let before = std::mem::replace(&mut epoch, store.epoch().unwrap());
        assert!(before < epoch, "{before} {epoch}");
    }
}

#[test]
fn everything_is_there_after_a_reopen_and_the_epoch_has_grown() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let run = RunId::generate();
    let mut store = SqliteStore::open(&path).unwrap();
    let stored = store.append(&run, contract::notes(5, 20)).unwrap();
    let before = store.epoch().unwrap();
    drop(store);
    let mut store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.run_events(&run, 1).unwrap(), stored);
    assert_eq!(store.find_run("@last").unwrap(), run);
    assert!(before < store.epoch().unwrap());
    assert_eq!(store.append(&run, contract::notes(1, 20)).unwrap()[0].seq, 6);
}

#[test]
fn a_kill_while_runs_are_compacted_changes_no_event() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("store.db");
    let mut store = SqliteStore::open(&path).unwrap();
    let runs: Vec<(RunId, Vec<Event>)> = (0..60)
        .map(|_| {
            let run = RunId::generate();
            let mut events = contract::finished_run();
            events.splice(1..1, contract::notes(30, 200));
            let stored = store.append(&run, events).unwrap();
            store.keep_finished(&run, stored.len() as u64, None).unwrap();
            (run, stored)
        })
        .collect();
    drop(store);
    for enough in [1, 17, 42] {
        killed_writer(&path, enough, true);
        let mut store = SqliteStore::open(&path).unwrap();
        for (run, events) in &runs {
            assert_eq!(&store.run_events(run, 1).unwrap(), events, "after {enough} more steps");
        }
    }
    let mut store = SqliteStore::open(&path).unwrap();
    assert!(store.compact(1).unwrap() > 0, "the last kill came before the end");
}
