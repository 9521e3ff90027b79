//! Services, levels and publishing through real programs, over a log that a controller finds when it starts; nothing is injected anywhere.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use controller_store::{SqliteStore, Store};
use proto_model::event::{EventBody, NewEvent};
use proto_model::exit;
use proto_model::id::{InjectionId, RunId};
use proto_model::time::Timestamp;
use serde_json::{Value, json};
use tests_harness::report;
use tests_it::{Controller, Said, impossible};

const DAY: i64 = 86_400_000;
const SERVICE: &str = "\
apiVersion: fracas/v1
kind: Service
name: web
owners: [team-web]
environments: { production: {}, demo: {} }
dependencies:
  critical:
    - { name: cache, criticality_period: 5m, rto: 1m, rpo: 0s, probes: [answers], tests: [{ name: lost-cache, digest: 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' }] }
playbooks:
  - { name: restore-cache, dependency: cache, steps: [start it] }
";

fn skipped() -> bool {
    let why = impossible();
    if let Some(why) = &why {
        report::skip(why);
    }
    why.is_some()
}

fn days_ago(days: i64) -> Result<Timestamp> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    Ok(Timestamp(i64::try_from(now)? - days * DAY))
}

fn body(value: Value) -> Result<EventBody> {
    serde_json::from_value(value.clone()).with_context(|| format!("{value}"))
}

/// After an environment: its hosts had no label that said so.
const UNSAID: &str = " without a label";

/// A run of `lost-cache` as the conductor would have written it: ordered, confirmed, undone, proven, judged.
fn told(environment: &str, verdict: &str, at: Timestamp) -> Result<Vec<NewEvent>> {
    let id = InjectionId::generate();
    let probe = json!({"name": "answers", "role": "hypothesis", "check": {"tcp": {"address": "web:80"}},
        "from": "controller", "every_ms": 1000, "timeout_ms": 1000, "tolerate": {"count": 0}, "breaks": 3});
    let step = json!({"fault": "process.pause", "params": {}, "duration_ms": 8000, "reversal": {"kind": "full"},
        "injections": [{"host": "cache-1", "seed": 1}], "matched": 1});
    let (environment, labels) = match environment.strip_suffix(UNSAID) {
        Some(environment) => (environment, json!({})),
        None => (environment, json!({"env": environment})),
    };
    let host = json!({"name": "cache-1", "boot_id": "b", "catalogue_digest": "", "labels": labels, "source_address": null});
    let plan = json!({"name": "lost-cache", "origin": "experiment", "service": "web", "environment": environment,
        "hypothesis": {"says": "web <b>answers</b>", "before_ms": 5000, "after_ms": 9000, "probes": [probe]}, "guards": [], "limits": {},
        "steps": [{"path": "steps[0]", "body": {"fault": step}}], "hosts": [host], "seed": 7, "notes": [], "source": ""});
    let injection =
        json!({"id": id, "step": "steps[0]", "host": "cache-1", "fault": "process.pause", "params": {}, "duration_ms": 8000, "seed": 1});
    let bodies = [
        json!({"type": "run.accepted", "digest": "sha256:00", "plan": plan, "injections": [injection], "idempotency_key": null, "halt_epoch": 0}),
        json!({"type": "run.phase", "from": "accepted", "to": "during"}),
        json!({"type": "injection.ordered", "id": id, "step": "steps[0]", "host": "cache-1", "duration_ms": 8000, "lease_ms": 15000}),
        json!({"type": "injection.applied", "id": id, "effect": {}, "engine": null, "apply_ms": 3, "deadline_boot_ms": 1, "noop": false}),
        json!({"type": "injection.observed", "id": id, "window": 1, "window_ms": 5000, "asked": null, "measured": null, "unit": "",
            "state": "confirmed", "note": null}),
        json!({"type": "injection.undone", "id": id, "ended_by": "duration_elapsed", "undone_by": "agent", "undo_ms": 41,
            "answer": "undone_now", "drift": []}),
        json!({"type": "host.verified", "host": "cache-1", "result": "clean", "owned_left": [], "not_restored": [], "drift": [],
            "consequences": [], "boot_id": "b", "digest": ""}),
        json!({"type": "run.judged", "verdict": verdict, "cleanup": "proven", "exit_code": 0, "ended_by": "completed", "reasons": [],
            "detection_ms": null, "recovery_ms": 1200, "judge_version": 1}),
        json!({"type": "run.phase", "from": "verifying", "to": "finished"}),
    ];
    let event = |(ms, value): (u64, Value)| {
        Ok(NewEvent {
            at: at.plus_ms(ms),
            by: "controller".into(),
            source: None,
            body: body(value)?,
        })
    };
    (0..).step_by(1_000).zip(bodies).map(event).collect()
}

/// A controller on a log of these runs.
fn after(folder: &Path, runs: &[(&str, &str, i64)]) -> Result<(Controller, Vec<RunId>)> {
    std::fs::create_dir_all(folder.join("state"))?;
    let mut store = SqliteStore::open(folder.join("state/store.db"))?;
    let mut ids = Vec::new();
    for (environment, verdict, days) in runs {
        let id = RunId::generate();
        store.append(&id, told(environment, verdict, days_ago(*days)?)?)?;
        ids.push(id);
    }
    drop(store);
    let file = folder.join("service.yaml");
    std::fs::write(file, SERVICE)?;
    Ok((Controller::start(folder)?, ids))
}

fn expect(said: &Said, code: u8, words: &[&str]) {
    assert_eq!(said.code, i32::from(code), "{said:?}");
    for word in words {
        assert!(said.err.contains(word) || said.out.contains(word), "{word:?} is not in {said:?}");
    }
}

fn read(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(&here)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.insert(path.strip_prefix(folder)?.display().to_string(), std::fs::read(&path)?);
            }
        }
    }
    Ok(files)
}

fn standing(levels: &Value, code: &str) -> Value {
    let lines = levels["levels"].as_array().into_iter().flatten();
    let mut requirements = lines.flat_map(|line| line["requirements"].as_array().into_iter().flatten());
    requirements
        .find(|r| r["code"] == code)
        .map_or(Value::Null, |r| r["standing"].clone())
}

#[test]
fn a_service_is_applied_shown_and_removed() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (controller, _) = after(folder.path(), &[])?;
    let file = folder.path().join("service.yaml").display().to_string();
    let broken = folder.path().join("broken.yaml");
    std::fs::write(&broken, SERVICE.replace("rto: 1m, ", ""))?;
    let said = controller.fracas(&["services", "apply", &broken.display().to_string()])?;
    expect(&said, exit::INVALID_FILE, &["broken.yaml:8:", "rto", "is required"]);
    expect(&controller.fracas(&["services"])?, exit::OK, &["no services"]);
    expect(&controller.fracas(&["services", "apply", &file])?, exit::OK, &["web", "team-web"]);
    let shown = controller.fracas(&["services", "show", "web", "-o", "json"])?;
    let first: Value = serde_json::from_str(&shown.out)?;
    assert_eq!(
        (&first["kind"], &first["critical"][0]["rto_ms"]),
        (&json!("Service"), &json!(60_000))
    );
    controller.fracas(&["services", "apply", &file])?;
    let again = controller.fracas(&["services", "show", "web", "-o", "json"])?;
    assert_eq!(again.out, shown.out, "the same file again changes nothing");
    assert_eq!(controller.fracas(&["services", "show", "web", "--file"])?.out, SERVICE);
    expect(
        &controller.fracas(&["levels", "show", "webs"])?,
        exit::ERROR,
        &["did you mean web?"],
    );
    expect(&controller.fracas(&["levels", "why", "web", "6"])?, exit::USAGE, &["1..=5"]);
    expect(&controller.fracas(&["services", "remove", "web"])?, exit::OK, &["removed"]);
    expect(&controller.fracas(&["service", "show", "web"])?, exit::ERROR, &["no service named"]);
    Ok(())
}

/// Two passes, one failure in production, and one that showed nothing.
const RUNS: [(&str, &str, i64); 4] = [
    ("demo", "passed", 30),
    ("demo", "passed", 2),
    ("production", "failed", 5),
    ("demo", "inconclusive", 1),
];

/// The controller on that log, with the service applied.
fn with_service(folder: &Path) -> Result<(Controller, Vec<RunId>)> {
    let (controller, ids) = after(folder, &RUNS)?;
    let file = folder.join("service.yaml").display().to_string();
    expect(&controller.fracas(&["services", "apply", &file])?, exit::OK, &[]);
    Ok((controller, ids))
}

fn levels(controller: &Controller) -> Result<Value> {
    let said = controller.fracas(&["levels", "show", "web", "-o", "json"])?;
    Ok(serde_json::from_str(&said.out)?)
}

#[test]
fn levels_follow_the_log() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (controller, ids) = with_service(folder.path())?;
    let levels = levels(&controller)?;
    for (code, wanted) in [
        ("fail_tested", "holds"),
        ("on_a_cadence", "holds"),
        ("in_production", "holds"),
        ("published", "missing"),
        ("on_a_dashboard", "missing"),
        ("agreed", "not_evaluated"),
    ] {
        assert_eq!(standing(&levels, code), wanted, "{code}: {levels:#}");
    }
    let why = controller.fracas(&["levels", "why", "web", "3"])?;
    let next = "next: publish the results: fracas publish DIR";
    expect(&why, exit::OK, &["level 1  not evaluated", "level 3  missing", next]);
    assert_eq!(
        why.out.matches("next: ").count(),
        5,
        "each line that does not hold says what to do: {why:?}"
    );
    let shown = controller.fracas(&["levels", "show", "web"])?;
    assert!(shown.out.contains(ids[1].as_str()), "evidence is named by its run: {shown:?}");
    let list = controller.fracas(&["levels"])?;
    assert!(list.out.lines().nth(1).is_some_and(|row| row.contains("not evaluated")), "{list:?}");
    Ok(())
}

#[test]
fn a_host_that_nobody_labelled_is_no_evidence_of_production() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (controller, ids) = after(folder.path(), &[(&format!("production{UNSAID}"), "passed", 2)])?;
    let file = folder.path().join("service.yaml").display().to_string();
    expect(&controller.fracas(&["services", "apply", &file])?, exit::OK, &[]);
    assert_eq!(standing(&levels(&controller)?, "in_production"), "missing");
    let why = "cache-1 had no label env=production";
    let shown = controller.fracas(&["levels", "show", "web"])?;
    expect(&shown, exit::OK, &[why, &format!("not counted: run {}", ids[0])]);
    let site = folder.path().join("site");
    expect(&controller.fracas(&["publish", &site.display().to_string()])?, exit::OK, &[]);
    let page = std::fs::read_to_string(site.join("services/web.html"))?;
    assert!(page.contains(why), "{page}");
    Ok(())
}

#[test]
fn a_required_test_that_was_never_decided_is_overdue_without_a_schedule() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (controller, _) = after(folder.path(), &[("demo", "inconclusive", 1)])?;
    let due = || controller.fracas(&["schedules", "due", "--fail-overdue"]);
    expect(&due()?, exit::OK, &[]);
    let file = folder.path().join("service.yaml").display().to_string();
    expect(&controller.fracas(&["services", "apply", &file])?, exit::OK, &[]);
    expect(&due()?, exit::ERROR, &["lost-cache", "web", "never"]);
    drop(controller);
    let folder = tempfile::tempdir()?;
    let (controller, _) = with_service(folder.path())?;
    let due = controller.fracas(&["schedules", "due", "--fail-overdue"])?;
    expect(&due, exit::OK, &["lost-cache", "fresh"]);
    Ok(())
}

#[test]
fn a_publication_is_evidence_and_the_same_log_gives_the_same_bytes() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (controller, ids) = with_service(folder.path())?;
    let site = folder.path().join("site");
    let publish = || controller.fracas(&["publish", &site.display().to_string()]);
    expect(&publish()?, exit::OK, &["points    web 3 decided runs"]);
    let first = read(&site)?;
    for id in &ids {
        let page = first.get(&format!("runs/{id}.html")).context("every run has its page")?;
        let page = String::from_utf8_lossy(page);
        assert!(
            page.contains("<svg") && page.contains("&#60;b&#62;answers") && !page.contains("<b>"),
            "{page}"
        );
    }
    let after = levels(&controller)?;
    assert_eq!(
        (standing(&after, "published"), standing(&after, "on_a_dashboard")),
        (json!("holds"), json!("holds"))
    );
    assert_eq!(after["level"], 0, "level 1 is not evaluated");
    let looks = || -> Result<BTreeMap<String, (u64, i64, i64)>> {
        let looks = read(&site)?.into_keys().map(|path| {
            let found = std::fs::metadata(site.join(&path))?;
            Ok((path, (found.ino(), found.ctime(), found.ctime_nsec())))
        });
        looks.collect()
    };
    let before = looks()?;
    expect(&publish()?, exit::OK, &[", 0 of them written anew", "points    web 3 decided runs"]);
    assert_eq!(first, read(&site)?);
    assert_eq!(before, looks()?, "nothing is written where nothing has changed");
    // What others did to it is put right, and nothing else is written.
    std::fs::write(site.join(format!("runs/{}.html", ids[0])), "something else")?;
    std::fs::remove_file(site.join(format!("runs/{}.html", ids[1])))?;
    expect(&publish()?, exit::OK, &[", 2 of them written anew"]);
    let stands = |files: BTreeMap<String, Vec<u8>>| -> BTreeMap<String, Vec<u8>> {
        files.into_iter().filter(|(path, _)| path != ".fracas-files").collect()
    };
    assert_eq!(stands(first), stands(read(&site)?));
    Ok(())
}

#[test]
fn reports_come_in_every_form_and_a_stranger_s_folder_is_left_alone() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (controller, ids) = after(folder.path(), &[("demo", "failed", 1)])?;
    let run = ids[0].as_str();
    let xml = controller.fracas(&["runs", "report", run, "--format", "junit"])?;
    expect(
        &xml,
        exit::OK,
        &["<testsuite name=\"lost-cache\"", "<failure", "name=\"cache-1 is clean\""],
    );
    let page = controller.fracas(&["runs", "report", run, "--format", "html"])?;
    expect(&page, exit::OK, &["<!doctype html>", "default-src 'none'", "\u{2713} clean"]);
    expect(&controller.fracas(&["runs", "report", run])?, exit::OK, &["| service | web |"]);
    let home = folder.path().join("home");
    std::fs::create_dir(&home)?;
    std::fs::write(home.join("thesis.txt"), "years")?;
    let said = controller.fracas(&["publish", &home.display().to_string()])?;
    expect(&said, exit::USAGE, &["home", "nothing was written"]);
    assert_eq!(read(&home)?.len(), 1);
    let junit = folder.path().join("refused.xml").display().to_string();
    controller.fracas(&["halt", "--reason", "drill"])?;
    let said = controller.fracas(&["attack", "cpu.burn", "--on", "all", "--for", "10s", "--junit", &junit])?;
    expect(&said, exit::ABORTED, &["drill"]);
    assert!(std::fs::read_to_string(&junit)?.contains("<error type=\"halted\""));
    Ok(())
}
