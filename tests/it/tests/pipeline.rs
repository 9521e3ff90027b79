//! `fracas run` as a pipeline's gate, against real hosts: what each exit code stands for, and what of a file reaches the hosts.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto_model::exit;
use serde_json::Value;
use tests_harness::lab::CONTROL;
use tests_harness::{Cmd, Fleet, Lab, LabPlan, Output, Packages, programs, report, wait};
use tests_it::fracas;

const SETTINGS: &str = "lease = \"2s\"\nheartbeat = \"500ms\"\n";
const RULES: &str = "[probes]\ncommands = \"/etc/fracas/probes\"\nuser = \"nobody\"\n";
/// The process that is paused: it answers HTTP on port 8081, with status 502 since it has no redis.
const VICTIM: &str = "answerer";
const SOON: Duration = Duration::from_secs(20);

/// Holds whatever happens: a program on each host that says a number, and nobody is root.
const STEADY: &str = "
  says: the hosts' own program says so
  before: 4s
  after: 20s
  probes: [{ name: alive, command: { program: alive, above: 0 }, from: all, timeout: 900ms }]";
/// Holds while web's victim runs.
const ANSWERS: &str = "
  before: 4s
  after: 20s
  probes: [{ name: answers, http: { url: 'http://web:8081/', status: 502, within: 500ms } }]";

/// Two hosts with a victim each; `None`, and said why, where hosts cannot be made.
fn site(name: &str) -> Result<Option<Lab>> {
    if let Some(reason) = Fleet::impossible() {
        report::skip(&reason);
        return Ok(None);
    }
    Packages::ensure(&["iproute2"])?;
    let plan = LabPlan::new(name, "staging").settings(SETTINGS).rules(RULES);
    let lab = plan.host("web", "web").host("db", "db").start()?;
    for host in ["web", "db"] {
        furnish(&lab, host)?;
    }
    Ok(Some(lab))
}

fn furnish(lab: &Lab, name: &str) -> Result<()> {
    let host = lab.host(name);
    let script = "#!/bin/sh\ntest \"$(id -u)\" -ne 0 && echo 1";
    host.write("/etc/fracas/probes/alive", script)?;
    let greeting = programs::find("fracas-test-greeting")?;
    let line = format!(
        "chmod 755 /etc/fracas/probes /etc/fracas/probes/alive; mkdir -p /run/tmp; cp {} /run/tmp/{VICTIM}",
        greeting.display()
    );
    host.exec(Cmd::sh(line))?.ok()?;
    let victim = Cmd::new(format!("/run/tmp/{VICTIM}")).args(["0.0.0.0:8081", "127.0.0.1:1"]);
    host.start("victim", &victim)?;
    let running = || Ok(!host.processes_named(VICTIM)?.is_empty());
    wait::until("the victim runs", SOON, running).map(drop)
}

/// Writes an experiment to the controller's host; its path there.
fn file(lab: &Lab, rest: &str) -> Result<&'static str> {
    const PATH: &str = "/run/tmp/experiment.yaml";
    let text = format!("apiVersion: fracas/v1\nkind: Experiment\nname: pipeline\nenvironment: staging\n{rest}");
    lab.host(CONTROL).exec(Cmd::sh("mkdir -p /run/tmp"))?.ok()?;
    lab.host(CONTROL).write(PATH, text)?;
    Ok(PATH)
}

fn pause(host: &str, duration: &str) -> String {
    format!("fault: process.pause, params: {{ name: {VICTIM} }}, on: {{ hosts: [{host}] }}, duration: {duration}")
}

fn run(lab: &Lab, rest: &str, flags: &[&str]) -> Result<Output> {
    let path = file(lab, rest)?;
    lab.fracas(&[&["run", path], flags].concat())
}

#[track_caller]
fn ended(output: &Output, code: u8, words: &[&str]) {
    assert_eq!(output.code(), Some(i32::from(code)), "{output:?}");
    let said = format!("{output:?}");
    words
        .iter()
        .for_each(|word| assert!(said.contains(word), "{word:?} is not in {said}"));
}

fn states(run: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = run["steps"].as_array().cloned().unwrap_or_default();
    steps.iter().map(|step| (text(&step["path"]), text(&step["state"]))).collect()
}

#[test]
fn branches_rounds_variables_and_host_programs_reach_the_hosts() -> Result<()> {
    let Some(lab) = site("branches")? else { return Ok(()) };
    let (web, db) = (pause("web", "9s"), pause("db", "6s"));
    let rest = format!(
        "variables: {{ rounds: {{ type: integer }} }}\nhypothesis: {STEADY}
limits: {{ hosts: 2, keep_healthy: 0 }}
steps:
  - parallel:
      - {{ {web} }}
      - steps: [{{ wait: 1s }}, {{ {db} }}]
  - {{ {db}, repeat: \"${{rounds}}\" }}
"
    );
    ended(
        &run(&lab, &rest, &[])?,
        exit::INVALID_FILE,
        &["experiment.yaml:5:", "rounds", "was not set"],
    );
    ended(
        &run(&lab, &rest, &["--set", "rounds=none"])?,
        exit::INVALID_FILE,
        &["is no integer"],
    );
    ended(&run(&lab, &rest, &["--set", "rounds=2"])?, exit::OK, &["passed"]);
    let run = lab.json(&["runs", "show", "@last"])?;
    let expected = [
        "steps[0]",
        "steps[0].parallel[0]",
        "steps[0].parallel[1]",
        "steps[0].parallel[1].steps[0]",
        "steps[0].parallel[1].steps[1]",
        "steps[1]",
        "steps[1].round[0]",
        "steps[1].round[1]",
    ];
    assert_eq!(states(&run), expected.map(|path| (path.to_owned(), "done".to_owned())));
    let injections = run["injections"].as_array().context("the run has injections")?;
    assert_eq!(injections.len(), 4);
    let applied = |at: usize| injections[at]["applied_at"].as_str().unwrap_or_default().to_owned();
    let over = |at: usize| injections[at]["ended_at"].as_str().unwrap_or_default().to_owned();
    ensure!(applied(1) < over(0), "the branches did not act at the same time: {run}");
    ensure!(over(0) <= applied(2) && over(2) <= applied(3), "rounds came too early: {run}");
    Ok(())
}

#[test]
fn a_conflict_between_branches_is_seen_by_the_host_before_anything_starts() -> Result<()> {
    let Some(lab) = site("conflict")? else { return Ok(()) };
    let other = pause("web", "6s").replace(&format!("name: {VICTIM}"), &format!("name: {VICTIM}, pick: oldest"));
    let rest = format!(
        "hypothesis: {STEADY}\nsteps: [{{ parallel: [{{ {} }}, {{ {other} }}] }}]",
        pause("web", "6s")
    );
    let path = file(&lab, &rest)?;
    ended(
        &lab.fracas(&["plan", path])?,
        exit::ERROR,
        &["conflict", "steps[0].parallel[1] web refuses"],
    );
    ended(&lab.fracas(&["run", path])?, exit::ERROR, &["nothing was touched"]);
    assert_eq!(lab.json(&["runs", "list"])?["items"].as_array().map(Vec::len), Some(0));
    Ok(())
}

#[test]
fn every_exit_code_of_a_gate_says_what_became_of_the_run() -> Result<()> {
    let Some(lab) = site("gate")? else { return Ok(()) };
    let steps = |duration: &str| format!("steps: [{{ {} }}]", pause("web", duration));
    // The victim is paused, so that it cannot answer.
    let broken = run(&lab, &format!("hypothesis: {ANSWERS}\n{}", steps("7s")), &[])?;
    ended(&broken, exit::FAILED, &["hypothesis_broke"]);
    // The same as a guard ends the run.
    let guard = "guards: [{ name: answers, http: { url: 'http://web:8081/', status: 502, within: 500ms }, breaks: 2 }]";
    let guarded = run(&lab, &format!("hypothesis: {STEADY}\n{guard}\n{}", steps("20s")), &[])?;
    ended(&guarded, exit::ABORTED, &["guard_broke"]);
    // Nobody measures: no value before, so nothing is injected.
    let unmeasured = "\n  before: 4s\n  probes: [{ name: errors, prometheus: { url: 'http://db:1', query: up, above: 0 } }]";
    let unknown = run(&lab, &format!("hypothesis: {unmeasured}\n{}", steps("7s")), &[])?;
    ended(&unknown, exit::INCONCLUSIVE, &["too_few_samples"]);
    let states = lab.json(&["runs", "show", "@last"])?["injections"][0]["state"].clone();
    assert_eq!(states, "withdrawn");
    // Longer than we wait; the run is then ended by hand, and the same run says so.
    let long = run(&lab, &format!("hypothesis: {STEADY}\n{}", steps("60s")), &["--timeout", "7s"])?;
    ended(&long, exit::TIMEOUT, &["goes on after the timeout of 7s"]);
    ended(&lab.fracas(&["stop", "@last", "--reason", "long enough"])?, exit::OK, &[]);
    ended(&lab.fracas(&["runs", "watch", "@last"])?, exit::ABORTED, &["long enough"]);
    // Nothing starts while everything is halted.
    ended(&lab.fracas(&["halt", "--reason", "drill"])?, exit::OK, &[]);
    ended(
        &run(&lab, &format!("hypothesis: {STEADY}\n{}", steps("7s")), &[])?,
        exit::ABORTED,
        &["drill"],
    );
    ended(&lab.fracas(&["release", "--reason", "over"])?, exit::OK, &[]);
    Ok(())
}

/// What is shipped for pipelines, and where a test has it carried out.
const GATE: &str = include_str!("../../../deploy/pipeline/gate.sh");
const JUNIT: &str = "/run/tmp/junit.xml";

/// The shipped gate on the controller's host, over the green result of an earlier run; with what it leaves as the result.
fn gate(lab: &Lab, rest: &str, flags: &[&str]) -> Result<(Output, String)> {
    let (path, control) = (file(lab, rest)?, lab.host(CONTROL));
    control.write("/run/tmp/gate.sh", GATE)?;
    control.write(JUNIT, GREEN)?;
    let program = programs::find("fracas")?;
    let folder = program.parent().context("fracas is in a folder")?.display().to_string();
    let script = Cmd::new("sh").args(["/run/tmp/gate.sh", path]).args(flags);
    let script = script
        .env("PATH", format!("{folder}:/usr/bin:/bin"))
        .env("JUNIT", JUNIT)
        .env("LIMIT", "40s");
    let output = control.exec(script.limit(Duration::from_secs(90)))?;
    let result = control.exec(Cmd::new("cat").args([JUNIT]))?.ok()?;
    Ok((output, result))
}

const GREEN: &str = "<testsuites tests=\"1\" failures=\"0\" errors=\"0\" skipped=\"0\"><!-- older --></testsuites>";

#[track_caller]
fn closed((output, junit): (Output, String), code: u8, words: &[&str], trouble: &str) {
    ended(&output, code, &[words, &["gate closed: "]].concat());
    assert!(!format!("{output:?}").contains("gate open"), "{output:?}");
    assert!(
        junit.contains(&format!("type=\"{trouble}\"")) && !junit.contains("older"),
        "{junit}"
    );
    assert!(!junit.contains("failures=\"0\" errors=\"0\""), "{junit}");
}

#[test]
fn the_shipped_gate_opens_for_a_pass_and_for_nothing_else() -> Result<()> {
    let Some(lab) = site("shipped")? else { return Ok(()) };
    let steps = format!("steps: [{{ {} }}]", pause("web", "7s"));
    let (open, junit) = gate(&lab, &format!("hypothesis: {STEADY}\n{steps}"), &[])?;
    ended(&open, exit::OK, &["gate open: passed"]);
    assert!(
        junit.contains("failures=\"0\" errors=\"0\"") && junit.contains("name=\"verdict\" value=\"passed\""),
        "{junit}"
    );
    let broken = gate(&lab, &format!("hypothesis: {ANSWERS}\n{steps}"), &[])?;
    closed(broken, exit::FAILED, &["the hypothesis broke"], "hypothesis_broke");
    let unmeasured = "\n  before: 4s\n  probes: [{ name: errors, prometheus: { url: 'http://db:1', query: up, above: 0 } }]";
    let unknown = gate(&lab, &format!("hypothesis: {unmeasured}\n{steps}"), &[])?;
    closed(unknown, exit::INCONCLUSIVE, &["nothing was shown"], "too_few_samples");
    let invalid = gate(&lab, "steps: []", &[])?;
    closed(invalid, exit::INVALID_FILE, &["experiment.yaml:"], "invalid_file");
    let unknown = gate(&lab, &format!("hypothesis: {STEADY}\n{steps}"), &["--set", "unknown=1"])?;
    closed(unknown, exit::INVALID_FILE, &["unknown"], "invalid_file");
    ended(&lab.fracas(&["halt", "--reason", "drill"])?, exit::OK, &[]);
    let halted = gate(&lab, &format!("hypothesis: {STEADY}\n{steps}"), &[])?;
    closed(halted, exit::ABORTED, &["drill"], "halted");
    ended(&lab.fracas(&["release", "--reason", "over"])?, exit::OK, &[]);
    let rest = format!("hypothesis: {STEADY}\nsteps: [{{ {} }}]", pause("web", "60s"));
    let long = gate(&lab, &rest, &[])?;
    closed(long, exit::TIMEOUT, &["not over after 40s"], "not_finished");
    ended(&lab.fracas(&["stop", "@last", "--reason", "long enough"])?, exit::OK, &[]);
    Ok(())
}

#[test]
fn the_shipped_gate_is_closed_without_a_controller_and_without_the_program() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("gate.sh"), GATE)?;
    std::fs::write(path("experiment.yaml"), "apiVersion: fracas/v1\n")?;
    let program = programs::find("fracas")?;
    let gate = |with: &str, arguments: &[&str]| -> Result<(Option<i32>, Option<String>)> {
        std::fs::write(path("junit.xml"), GREEN)?;
        let mut script = std::process::Command::new("/bin/sh");
        script.arg("gate.sh").args(arguments).current_dir(folder.path());
        script
            .env("PATH", format!("{with}:/usr/bin:/bin"))
            .env("FRACAS_SOCKET", path("none.sock"));
        let code = script.output()?.status.code();
        Ok((code, std::fs::read_to_string(path("junit.xml")).ok()))
    };
    let programs = program.parent().context("fracas is in a folder")?.display().to_string();
    let (code, junit) = gate(&programs, &["experiment.yaml"])?;
    assert_eq!(code, Some(i32::from(exit::UNREACHABLE)));
    assert!(junit.is_some_and(|xml| xml.contains("<error type=\"unreachable\"")));
    let (code, junit) = gate(&programs, &["experiment.yaml", "--detach"])?;
    assert_eq!(
        (code, junit),
        (Some(i32::from(exit::USAGE)), None),
        "a start that is not waited for is no gate"
    );
    let (code, junit) = gate("/nowhere", &["experiment.yaml"])?;
    assert_eq!((code, junit), (Some(127), None));
    Ok(())
}

#[test]
fn a_gate_without_a_controller_is_unreachable_and_says_where_it_looked() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path: PathBuf = folder.path().join("experiment.yaml");
    std::fs::write(&path, "apiVersion: fracas/v1\n")?;
    let said = fracas(folder.path(), &["run", path.to_str().unwrap_or_default(), "--timeout", "5s"])?;
    assert_eq!(said.code, i32::from(exit::UNREACHABLE), "{said:?}");
    assert!(said.err.contains("controller.sock"), "{said:?}");
    Ok(())
}
