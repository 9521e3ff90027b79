//! Finished runs that a controller compacts while it works: commands show the same events as before, and the same after a crash.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use controller_store::{SqliteStore, Store};
use proto_model::event::{Event, EventBody, NewEvent};
use proto_model::id::RunId;
use proto_model::time::Timestamp;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tests_harness::{report, wait};
use tests_it::{Controller, impossible};

const RUNS: usize = 3;
const NOTES: u64 = 60;
const COMPACTED_WITHIN: Duration = Duration::from_secs(60);

fn a_run() -> Result<Vec<NewEvent>> {
    let plan = json!({"name": "lost-cache", "origin": "attack", "service": null, "environment": "demo", "hypothesis": null, "guards": [],
        "limits": {}, "steps": [], "hosts": [], "seed": 7, "notes": [], "source": ""});
    let mut bodies = vec![
        json!({"type": "run.accepted", "digest": "sha256:00", "plan": plan, "injections": [], "idempotency_key": null, "halt_epoch": 0}),
        json!({"type": "run.phase", "from": "accepted", "to": "during"}),
    ];
    bodies.extend((0..NOTES).map(|number| json!({"type": "note.added", "text": format!("note {number} on what was seen")})));
    bodies.extend([
        json!({"type": "run.judged", "verdict": "passed", "cleanup": "proven", "exit_code": 0, "ended_by": "completed", "reasons": [],
            "detection_ms": null, "recovery_ms": 1200, "judge_version": 1}),
        json!({"type": "run.phase", "from": "verifying", "to": "finished"}),
    ]);
    let event = |(ms, value): (u64, Value)| {
        Ok(NewEvent {
            at: Timestamp(1_700_000_000_000).plus_ms(ms),
            by: "controller".into(),
            source: None,
            body: serde_json::from_value::<EventBody>(value.clone()).with_context(|| format!("{value}"))?,
        })
    };
    (0..).step_by(1_000).zip(bodies).map(event).collect()
}

/// What the table of rows and that of blocks hold.
fn counts(folder: &Path) -> Result<(i64, i64)> {
    let store = Connection::open_with_flags(folder.join("state/store.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM blocks)";
    Ok(store.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

fn shows(controller: &Controller, verb: &str, run: &RunId, events: &[Event]) -> Result<()> {
    let said = controller.fracas(&["runs", verb, run.as_str(), "-o", "jsonl"])?;
    ensure!(said.code == 0, "{said:?}");
    let shown: Vec<Value> = said.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    // A watch ends with the run itself.
    let shown: Vec<Value> = shown.into_iter().filter(|shown| shown["kind"] == "Event").collect();
    ensure!(shown.len() == events.len(), "{verb} shows {} of {}", shown.len(), events.len());
    for (shown, event) in shown.iter().zip(events) {
        let Value::Object(expected) = serde_json::to_value(event)? else {
            continue;
        };
        for (key, value) in expected {
            ensure!(shown[&key] == value, "{verb}, {key} of event {}: {shown}", event.seq);
        }
    }
    Ok(())
}

#[test]
fn commands_show_the_events_of_compacted_runs() -> Result<()> {
    if let Some(why) = impossible() {
        report::skip(&why);
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    std::fs::create_dir_all(folder.path().join("state"))?;
    let mut store = SqliteStore::open(folder.path().join("state/store.db"))?;
    let stored = (0..RUNS).map(|_| {
        let run = RunId::generate();
        Ok((run.clone(), store.append(&run, a_run()?)?))
    });
    let stored: Vec<(RunId, Vec<Event>)> = stored.collect::<Result<_>>()?;
    drop(store);
    let controller = Controller::start(folder.path())?;
    wait::until("every finished run is compacted", COMPACTED_WITHIN, || {
        Ok(counts(folder.path())? == (0, i64::try_from(RUNS)?))
    })?;
    for (run, events) in &stored {
        shows(&controller, "events", run, events)?;
        shows(&controller, "watch", run, events)?;
    }
    controller.kill()?;
    let controller = Controller::start(folder.path())?;
    for (run, events) in &stored {
        shows(&controller, "events", run, events)?;
    }
    Ok(())
}
