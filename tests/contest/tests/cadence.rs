//! Unattended runs on real hosts: one run for one tick though the controller is killed, evidence that ages, and the rules of production.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto_model::exit;
use serde_json::Value;
use tests_contest::impossible;
use tests_harness::lab::{CONTROL, CONTROLLER};
use tests_harness::{Cmd, Lab, LabPlan, Then, programs, wait};

/// A pattern of every minute, the time that agents have to come back, and the start itself.
const A_TICK: Duration = Duration::from_secs(100);
const A_RUN: Duration = Duration::from_secs(60);
const FILE: &str = "/run/tmp/checkout.yaml";
const SETTINGS: &str = "lease = \"2s\"\nheartbeat = \"500ms\"\n";
/// A process that sleeps: being paused shows on it even on a machine without a free core.
const VICTIM: &str = "idler";
/// The address of the second host after the controller's.
const ECHO: &str = "10.77.0.12:80";

fn experiment(environment: &str, guards: &str) -> String {
    format!(
        "apiVersion: fracas/v1\nkind: Experiment\nname: checkout-pauses\nservice: shop\nenvironment: {environment}\n\
         hypothesis:\n  before: 3s\n  after: 10s\n  probes: [{{name: answers, tcp: '{ECHO}'}}]\n{guards}\
         steps: [{{fault: process.pause, params: {{name: {VICTIM}}}, on: {{hosts: [web]}}, duration: 6s}}]\n"
    )
}

fn guarded(environment: &str) -> String {
    experiment(environment, &format!("guards: [{{name: alive, tcp: '{ECHO}'}}]\n"))
}

/// A host that is harmed, and one that answers probes.
fn lab(name: &str, environment: &str, settings: &str) -> Result<Lab> {
    let plan = LabPlan::new(name, environment).settings(&format!("{SETTINGS}{settings}"));
    let lab = plan.host("web", "web").host("echo", "echo").start()?;
    let helper = programs::find("fracas-test-host")?;
    let echo = lab.host("echo");
    echo.start("echo", &Cmd::new(helper.to_string_lossy()).args(["echo", "[::]:80"]))?;
    let listens = || Ok(std::fs::read_to_string(echo.log("echo"))?.contains("listening"));
    wait::until("the echo listens", A_RUN, listens)?;
    let web = lab.host("web");
    let victim = format!("/run/tmp/{VICTIM}");
    web.exec(Cmd::sh(format!("mkdir -p /run/tmp; cp /bin/sleep {victim}")))?.ok()?;
    web.start("victim", &Cmd::new(&victim).args(["100000"]))?;
    lab.host(CONTROL).exec(Cmd::sh("mkdir -p /run/tmp".to_owned()))?.ok()?;
    Ok(lab)
}

fn write(lab: &Lab, text: &str) -> Result<()> {
    lab.host(CONTROL).write(FILE, text)
}

fn crash(lab: &Lab) -> Result<()> {
    let control = lab.host(CONTROL);
    control.kill9(CONTROLLER, Then::StaysDown)?;
    let gone = || Ok(control.service(CONTROLLER)?.pid.is_none());
    wait::until("the controller is gone", A_RUN, gone).map(drop)
}

#[track_caller]
fn refused(lab: &Lab, line: &[&str], code: u8, words: &[&str]) -> Result<()> {
    let said = lab.fracas(line)?;
    let text = format!("{said:?}");
    ensure!(said.code() == Some(i32::from(code)), "{line:?} should end with {code}: {text}");
    for word in words {
        ensure!(text.contains(word), "{word:?} is not in the refusal of {line:?}: {text}");
    }
    Ok(())
}

fn ticks(lab: &Lab) -> Result<Vec<Value>> {
    let shown = lab.json(&["schedules", "show", "weekly"])?;
    Ok(shown["ticks"].as_array().cloned().unwrap_or_default())
}

fn due(lab: &Lab) -> Result<String> {
    let shown = lab.json(&["schedules", "show", "weekly"])?;
    Ok(shown["due"]["state"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn one_tick_is_one_run_though_the_controller_is_killed_and_evidence_ages() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let lab = lab("cadence", "staging", "")?;
    write(&lab, &guarded("staging"))?;
    lab.fracas(&[
        "schedules",
        "add",
        FILE,
        "--cron",
        "* * * * *",
        "--name",
        "weekly",
        "--missed",
        "run-once",
    ])?
    .ok()?;
    ensure!(due(&lab)? == "never");
    // As soon as a time has become a tick, whatever has become of the tick.
    wait::until("a tick", A_TICK, || Ok(!ticks(&lab)?.is_empty()))?;
    crash(&lab)?;
    lab.start_controller()?;
    lab.fracas(&["schedules", "pause", "weekly"])?.ok()?;
    lab.all_connected()?;
    let settled = || Ok(ticks(&lab)?.iter().all(|tick| tick["state"] != "due"));
    wait::until("every tick has its end", A_TICK, settled)?;
    let all = ticks(&lab)?;
    let started: Vec<&Value> = all.iter().filter(|tick| tick["state"] == "started").collect();
    ensure!(!started.is_empty(), "{all:?}");
    let over = || Ok(lab.json(&["runs", "--active"])?["items"].as_array().is_some_and(Vec::is_empty));
    wait::until("every run is over", A_RUN, over)?;
    let runs = lab.json(&["runs"])?["items"].as_array().cloned().unwrap_or_default();
    ensure!(runs.len() == started.len(), "{} ticks started {} runs", started.len(), runs.len());
    for run in &runs {
        ensure!(run["origin"] == "schedule" && run["by"] == "schedule:weekly", "{run}");
        ensure!(
            started.iter().any(|tick| tick["run"] == run["id"]),
            "{run} belongs to no tick of {all:?}"
        );
    }

    // A tick that a person asks for, in spite of the pause; it is decided, and that is what counts.
    let tick = lab.json(&["schedules", "run-now", "weekly"])?;
    let run = tick["run"].as_str().context("a run was started")?.to_owned();
    let finished = || Ok(lab.json(&["runs", "show", &run])?["state"] == "finished");
    wait::until("the run is finished", A_RUN, finished)?;
    let shown = lab.json(&["runs", "show", &run])?;
    ensure!(shown["verdict"] == "passed" && shown["cleanup"] == "proven", "{shown}");
    wait::until("the evidence counts", A_RUN, || Ok(due(&lab)? == "fresh"))?;

    let freeze = [
        "freezes",
        "add",
        "--from",
        "2020-01-01",
        "--until",
        "2099-01-01",
        "--reason",
        "year end",
    ];
    lab.fracas(&freeze)?.ok()?;
    refused(
        &lab,
        &["schedules", "run-now", "weekly"],
        exit::ERROR,
        &["skipped (freeze)", "year end"],
    )?;

    for (offset, expected) in [("29d", "due"), ("36d", "overdue"), ("0m", "fresh")] {
        crash(&lab)?;
        lab.start_controller_with(&["--clock-offset", offset])?;
        ensure!(due(&lab)? == expected, "moved by {offset} it is {}", due(&lab)?);
        let fails = lab.fracas(&["schedules", "due", "--fail-overdue"])?.code();
        ensure!(fails == Some(i32::from(expected == "overdue")), "{offset}: {fails:?}");
    }
    Ok(())
}

#[test]
fn production_is_opened_guarded_confirmed_and_bounded() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let rules = "[policy.production]\nmax_duration = \"8s\"\nmax_faulted_hosts = 1\nfaults = [\"cpu.*\", \"process.*\"]\n";
    let lab = lab("production", "production", rules)?;
    let attack = |more: &[&str]| {
        let mut line = vec!["attack", "cpu.burn", "percent=20", "--on", "web"];
        line.extend_from_slice(more);
        line.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let attacked = |more: &[&str], code: u8, words: &[&str]| {
        let line = attack(more);
        refused(&lab, &line.iter().map(String::as_str).collect::<Vec<_>>(), code, words)
    };
    let probe = format!("tcp={ECHO},within=500ms");
    attacked(
        &["--for", "6s", "--confirm", "production"],
        exit::ERROR,
        &["needs a guard, and this has 0"],
    )?;
    attacked(&["--for", "6s", "--probe", &probe], exit::FORBIDDEN, &["--confirm production"])?;
    attacked(
        &["--for", "60s", "--probe", &probe, "--confirm", "production"],
        exit::ERROR,
        &["policy.production.max_duration", "1m", "..8s"],
    )?;
    let cut = [
        "attack",
        "network.partition",
        "to=192.0.2.1",
        "--on",
        "web",
        "--for",
        "5s",
        "--confirm",
        "production",
        "--probe",
        &probe,
    ];
    refused(
        &lab,
        &cut,
        exit::ERROR,
        &["policy.production.faults", "network.partition", "cpu.*, process.*"],
    )?;
    let both = [
        "attack",
        "cpu.burn",
        "percent=20",
        "--on",
        "all",
        "--for",
        "5s",
        "--confirm",
        "production",
        "--probe",
        &probe,
    ];
    refused(
        &lab,
        &both,
        exit::ERROR,
        &["policy.production.max_faulted_hosts", "injects 2 hosts, and 0", "..1"],
    )?;
    let facts = [
        "attack",
        "cpu.burn",
        "percent=20",
        "--on",
        "role=web,fact.architecture=x86_64",
        "--for",
        "5s",
        "--confirm",
        "production",
    ];
    refused(&lab, &facts, exit::ERROR, &["fact.architecture", "labels and names, in production"])?;

    write(&lab, &experiment("production", ""))?;
    let add = ["schedules", "add", FILE, "--cron", "0 3 * * 2", "--name", "weekly"];
    refused(&lab, &add, exit::ERROR, &["needs a guard, and this has 0"])?;
    write(&lab, &guarded("production"))?;
    refused(&lab, &add, exit::FORBIDDEN, &["--confirm production"])?;
    let confirmed = [add.as_slice(), &["--confirm", "production"]].concat();
    let closed = [confirmed.as_slice(), &["--window", "Mon-Fri 09:00-16:00"]].concat();
    refused(&lab, &closed, exit::USAGE, &["never planned for a time in which it may start"])?;
    lab.fracas(&confirmed)?.ok()?;
    let tick = lab.json(&["schedules", "run-now", "weekly"])?;
    let run = tick["run"].as_str().context("a run was started")?.to_owned();
    let finished = || Ok(lab.json(&["runs", "show", &run])?["state"] == "finished");
    wait::until("the run is finished", A_RUN, finished)?;
    let shown = lab.json(&["runs", "show", &run])?;
    ensure!(shown["verdict"] == "passed" && shown["environment"] == "production", "{shown}");
    Ok(())
}
