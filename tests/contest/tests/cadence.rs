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
    experiment(
        environment,
        &format!("guards: [{{name: alive, tcp: '{ECHO}', every: 500ms, timeout: 500ms}}]\n"),
    )
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
    lab.host(CONTROL).exec(Cmd::sh("mkdir -p /run/tmp"))?.ok()?;
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

/// A line as it is typed, without quotes in it.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[track_caller]
fn refused(lab: &Lab, line: &[&str], code: u8, told: &[&str]) -> Result<()> {
    let said = lab.fracas(line)?;
    let text = format!("{said:?}");
    ensure!(said.code() == Some(i32::from(code)), "{line:?} should end with {code}: {text}");
    for word in told {
        ensure!(text.contains(word), "{word:?} is not in the refusal of {line:?}: {text}");
    }
    Ok(())
}

/// Asks for a tick now; the finished run that it started.
fn run_now(lab: &Lab) -> Result<Value> {
    let tick = lab.json(&words("schedules run-now weekly"))?;
    let run = tick["run"].as_str().context("a run was started")?.to_owned();
    let shown = || Ok(Some(lab.json(&["runs", "show", &run])?).filter(|run| run["state"] == "finished"));
    Ok(wait::for_some("the run is finished", A_RUN, shown)?.0)
}

fn ticks(lab: &Lab) -> Result<Vec<Value>> {
    let shown = lab.json(&["schedules", "show", "weekly"])?;
    Ok(shown["ticks"].as_array().cloned().unwrap_or_default())
}

fn due(lab: &Lab) -> Result<String> {
    let shown = lab.json(&["schedules", "show", "weekly"])?;
    Ok(shown["due"]["state"].as_str().unwrap_or_default().to_owned())
}

/// What each active run has come to.
fn still_going(lab: &Lab) -> String {
    let told = || -> Result<String> {
        let active = lab.json(&words("runs --active"))?["items"].as_array().cloned().unwrap_or_default();
        let events = |run: &Value| {
            let id = run["id"].as_str().unwrap_or_default();
            lab.fracas(&["runs", "events", id, "-o", "jsonl"])?.ok()
        };
        Ok(active.iter().map(events).collect::<Result<Vec<String>>>()?.join("\n"))
    };
    told().unwrap_or_else(|error| format!("{error:#}"))
}

/// Every started tick has a run of its own, and there is no other run.
fn one_each(lab: &Lab) -> Result<()> {
    let all = ticks(lab)?;
    let started: Vec<&Value> = all.iter().filter(|tick| tick["state"] == "started").collect();
    ensure!(!started.is_empty(), "{all:?}");
    let runs = lab.json(&["runs"])?["items"].as_array().cloned().unwrap_or_default();
    ensure!(runs.len() == started.len(), "{} ticks started {} runs", started.len(), runs.len());
    for run in &runs {
        ensure!(run["origin"] == "schedule" && run["by"] == "schedule:weekly", "{run}");
        let known = started.iter().any(|tick| tick["run"] == run["id"]);
        ensure!(known, "{run} belongs to no tick of {all:?}");
    }
    Ok(())
}

#[test]
fn one_tick_is_one_run_though_the_controller_is_killed_and_evidence_ages() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let lab = lab("cadence", "staging", "")?;
    write(&lab, &guarded("staging"))?;
    let add = [
        "schedules",
        "add",
        FILE,
        "--name",
        "weekly",
        "--missed",
        "run-once",
        "--cron",
        "* * * * *",
    ];
    lab.fracas(&add)?.ok()?;
    ensure!(due(&lab)? == "never");
    // As soon as a time has become a tick, whatever has become of the tick.
    wait::until("a tick", A_TICK, || Ok(!ticks(&lab)?.is_empty()))?;
    crash(&lab)?;
    lab.start_controller()?;
    lab.all_connected()?;
    let settled = || Ok(ticks(&lab)?.iter().all(|tick| tick["state"] != "due"));
    wait::until("every tick has its end", A_TICK, settled)?;
    // Not before: a tick that is still due when its schedule is paused starts nothing.
    lab.fracas(&words("schedules pause weekly"))?.ok()?;
    wait::until("no tick is left over", A_TICK, settled)?;
    let over = || Ok(lab.json(&words("runs --active"))?["items"].as_array().is_some_and(Vec::is_empty));
    wait::until("every run is over", A_RUN, over).with_context(|| still_going(&lab))?;
    one_each(&lab)?;

    // In spite of the pause; it is decided, and that is what counts.
    let run = run_now(&lab)?;
    ensure!(run["verdict"] == "passed" && run["cleanup"] == "proven", "{run}");
    wait::until("the evidence counts", A_RUN, || Ok(due(&lab)? == "fresh"))?;
    let freeze = words("freezes add --from 2020-01-01 --until 2099-01-01 --reason migration");
    lab.fracas(&freeze)?.ok()?;
    refused(
        &lab,
        &words("schedules run-now weekly"),
        exit::ERROR,
        &["skipped (freeze)", "migration"],
    )?;
    for (offset, expected) in [("29d", "due"), ("36d", "overdue"), ("0m", "fresh")] {
        crash(&lab)?;
        lab.start_controller_with(&["--clock-offset", offset])?;
        ensure!(due(&lab)? == expected, "moved by {offset} it is {}", due(&lab)?);
        let fails = lab.fracas(&words("schedules due --fail-overdue"))?.code();
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
    attacks_are_bounded(&lab)?;
    schedules_are_bounded(&lab)?;
    let run = run_now(&lab)?;
    ensure!(run["verdict"] == "passed" && run["environment"] == "production", "{run}");
    Ok(())
}

fn attacks_are_bounded(lab: &Lab) -> Result<()> {
    let probe = format!("--probe tcp={ECHO},within=500ms");
    let burn = "attack cpu.burn percent=20 --on";
    let confirm = "--confirm production";
    for (line, code, told) in [
        (
            format!("{burn} web --for 6s {confirm}"),
            exit::ERROR,
            ["needs a guard", "and this has 0"],
        ),
        (
            format!("{burn} web --for 7s {probe} {confirm}"),
            exit::ERROR,
            ["needs a guard that stops it in time", "at most half of the shortest fault"],
        ),
        (
            format!("{burn} web --for 8s {probe}"),
            exit::FORBIDDEN,
            ["approval_needed", confirm],
        ),
        (
            format!("{burn} web --for 60s {probe} {confirm}"),
            exit::ERROR,
            ["policy.production.max_duration: steps[0]: 1m is longer", "..8s"],
        ),
        (
            format!("attack network.partition to=192.0.2.1 --on web --for 8s {probe} {confirm}"),
            exit::ERROR,
            ["policy.production.faults: steps[0]: network.partition", "cpu.*, process.*"],
        ),
        (
            format!("{burn} all --for 8s {probe} {confirm}"),
            exit::ERROR,
            ["policy.production.max_faulted_hosts: steps[0] injects 2 hosts, and 0", "..1"],
        ),
        (
            format!("{burn} role=web,fact.architecture=x86_64 --for 5s {probe} {confirm}"),
            exit::ERROR,
            ["fact.architecture", "labels and names, in production"],
        ),
    ] {
        let json = [words(&line), vec!["-o", "json"]].concat();
        refused(lab, &json, code, &told)?;
    }
    Ok(())
}

/// Leaves one schedule behind.
fn schedules_are_bounded(lab: &Lab) -> Result<()> {
    let add = ["schedules", "add", FILE, "--name", "weekly", "--cron", "0 3 * * 2"];
    write(lab, &experiment("production", ""))?;
    refused(lab, &add, exit::ERROR, &["needs a guard, and this has 0"])?;
    write(lab, &guarded("production"))?;
    refused(lab, &add, exit::FORBIDDEN, &["--confirm production"])?;
    let confirmed = [add.as_slice(), &["--confirm", "production"]].concat();
    let closed = [confirmed.as_slice(), &["--window", "Mon-Fri 09:00-16:00"]].concat();
    refused(lab, &closed, exit::USAGE, &["never planned for a time in which it may start"])?;
    lab.fracas(&confirmed)?.ok().map(drop)
}
