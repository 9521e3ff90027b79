//! Losing what holds a fault, part by part: whatever is killed, hung or cut off, every effect ends in time and leaves nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_contest::{Harm, LEASE, Line, Site, WATCHDOG, all_gone, impossible};
use tests_harness::lab::{AGENT, CONTROL, CONTROLLER};
use tests_harness::{Cmd, Then, report, wait};

/// Nothing here ends because its time is over.
const LONG: Duration = Duration::from_secs(120);
/// For a guardian that replaces a killed agent.
const KILLED: Duration = Duration::from_secs(10);
/// For an agent that is not told any more that it may go on.
const LEASE_LOST: Duration = LEASE.saturating_add(Duration::from_secs(2));
/// For a guardian that must first be sure that its agent hangs.
const HANGS: Duration = WATCHDOG.saturating_mul(2);
/// What a look by connecting adds to the kernel's own end of a lease.
const LOOK: Duration = Duration::from_millis(700);
const GUARDED_AGAIN: Duration = Duration::from_secs(2);
/// For an agent to find that its worker has ended.
const WORKER_MISSED: Duration = Duration::from_secs(6);

#[test]
fn a_killed_agent_is_replaced_by_its_guardian() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::one_each("agent")?;
    let harms = Harm::every_kind(&site, LONG)?;
    let event = Instant::now();
    for host in site.targets() {
        site.host(host).kill9(AGENT, Then::StaysDown)?;
    }
    all_gone(&harms, "kill -9 agent", event, KILLED)?;
    site.targets().try_for_each(|host| site.lab.start_agent(host))?;
    for harm in &harms {
        let run = ended_badly(harm)?;
        ensure!(run["injections"][0]["ended_by"] == "guardian", "{run}");
    }
    site.all_clean()
}

#[test]
fn a_killed_worker_ends_its_fault_early_and_the_run_with_an_error() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::one_each("worker")?;
    for family in ["cpu", "memory"] {
        let harm = Harm::one_kind(&site, family, LONG)?;
        // One that is killed while it is being started is a fault that could not be applied.
        let holds = || Ok(site.run(&harm.run)?["injections"][0]["state"] == "holding");
        wait::until("the fault is applied", WORKER_MISSED, holds)?;
        let event = Instant::now();
        for worker in site.workers(&harm.host)? {
            site.host(&harm.host).signal(worker, nix::libc::SIGKILL)?;
        }
        let undone = || Ok(site.run(&harm.run)?["injections"][0]["state"] == "undone");
        wait::until("the fault without its worker is undone", WORKER_MISSED, undone)?;
        report::undone(&harm.fault, "kill -9 worker", event.elapsed(), WORKER_MISSED);
        let run = harm.is_over()?;
        ensure!(run["injections"][0]["ended_by"] == "ended_early", "{run}");
        ensure!(run["verdict"] == "error" && run["cleanup"] == "proven", "{run}");
    }
    site.all_clean()
}

#[test]
fn a_killed_guardian_is_back_in_two_seconds_and_faults_go_on() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::one_each("guardian")?;
    let harms = Harm::every_kind(&site, LONG)?;
    for harm in &harms {
        let first = site.guardian(&harm.host)?.context("a guardian watches the agent")?;
        let event = Instant::now();
        site.host(&harm.host).signal(first, nix::libc::SIGKILL)?;
        let back = || Ok(site.guardian(&harm.host)?.is_some_and(|pid| pid != first));
        wait::until("there is another guardian", GUARDED_AGAIN, back)?;
        report::undone(&harm.fault, "kill -9 guardian (guarded again)", event.elapsed(), GUARDED_AGAIN);
    }
    for harm in &harms {
        ensure!(harm.witness.sees()?, "{} ended with its guardian", harm.fault);
    }
    // The new ones are no decoration: they do what the first would have done.
    let event = Instant::now();
    for harm in &harms {
        site.host(&harm.host).kill9(AGENT, Then::StartsAgain)?;
    }
    all_gone(&harms, "kill -9 guardian, then agent", event, KILLED)?;
    for harm in &harms {
        ended_badly(harm)?;
    }
    site.all_clean()
}

#[test]
fn without_agent_and_guardian_the_kernel_ends_a_cut_and_the_next_start_the_rest() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::one_each("both")?;
    let harms = Harm::every_kind(&site, LONG)?;
    let event = Instant::now();
    for host in site.targets() {
        site.lab.kill_agent_and_guardian(host, Then::StaysDown)?;
    }
    let (cuts, others): (Vec<Harm>, Vec<Harm>) = harms.into_iter().partition(|harm| harm.fault.starts_with("network."));
    all_gone(&cuts, "kill -9 agent and guardian (kernel)", event, LEASE + LOOK)?;
    let event = Instant::now();
    site.targets().try_for_each(|host| site.lab.start_agent(host))?;
    all_gone(&others, "kill -9 agent and guardian (since the next start)", event, KILLED)?;
    for harm in cuts.iter().chain(&others) {
        ended_badly(harm)?;
    }
    site.all_clean()
}

#[test]
fn a_killed_controller_costs_a_lease_and_its_runs_are_aborted() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::one_each("head")?;
    let harms = Harm::every_kind(&site, LONG)?;
    let event = Instant::now();
    site.control().kill9(CONTROLLER, Then::StaysDown)?;
    all_gone(&harms, "kill -9 controller", event, LEASE_LOST)?;
    site.lab.start_controller()?;
    site.lab.all_connected()?;
    for harm in &harms {
        let run = ended_badly(harm)?;
        ensure!(
            run["verdict"] == "aborted" && run["reasons"].to_string().contains("controller_restart"),
            "{run}"
        );
        ensure!(run["injections"][0]["ended_by"] == "lease_lost", "{run}");
    }
    site.all_clean()
}

#[test]
fn a_cut_cable_costs_a_lease() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::one_each("cable")?;
    let harms = Harm::every_kind(&site, LONG)?;
    let event = Instant::now();
    site.lab.fleet().cable(CONTROL, false)?;
    all_gone(&harms, "the controller's cable is cut", event, LEASE_LOST)?;
    site.lab.fleet().cable(CONTROL, true)?;
    for address in site.control().addresses() {
        let agents = std::net::SocketAddr::new(address, 7400);
        wait::until(format_args!("{agents} can be reached again"), Duration::from_secs(20), || {
            Ok(site.targets().all(|host| Line::open(site.host(host), agents).is_ok()))
        })?;
    }
    site.lab.all_connected()?;
    for harm in &harms {
        let run = ended_badly(harm)?;
        ensure!(run["injections"][0]["ended_by"] == "lease_lost", "{run}");
    }
    site.all_clean()
}

#[test]
fn a_stopped_agent_is_killed_and_replaced() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::one_each("hangs")?;
    let harms = Harm::every_kind(&site, LONG)?;
    let event = Instant::now();
    for host in site.targets() {
        let agent = site.host(host).service(AGENT)?.pid.context("an agent runs")?;
        site.host(host).signal(agent, nix::libc::SIGSTOP)?;
    }
    all_gone(&harms, "SIGSTOP agent", event, HANGS)?;
    for harm in &harms {
        ended_badly(harm)?;
    }
    site.all_clean()
}

/// The run tells that something was lost, and all the same that its host is clean.
fn ended_badly(harm: &Harm<'_>) -> Result<Value> {
    let run = harm.is_over()?;
    ensure!(run["verdict"] == "error" || run["verdict"] == "aborted", "{}: {run}", harm.fault);
    ensure!(
        run["cleanup"] == "proven" && run["injections"][0]["state"] == "undone",
        "{}: {run}",
        harm.fault
    );
    Ok(run)
}

/// The state of the controller on a disk of its own, full to the last byte: what ends harm needs no room.
#[test]
fn a_stop_ends_a_fault_although_the_controllers_disk_is_full() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    const STATE: &str = "/var/lib/fracas/controller";
    let site = Site::start("full", &["web"])?;
    let control = site.control();
    control.kill9(CONTROLLER, Then::StaysDown)?;
    control.exec(Cmd::sh(format!("mv {STATE} /run/tmp/state")))?.ok()?;
    control.mount_disk(STATE, 64 << 20)?;
    control
        .exec(Cmd::sh(format!("chmod 700 {STATE} && cp -a /run/tmp/state/. {STATE}")))?
        .ok()?;
    site.lab.start_controller()?;
    site.lab.all_connected()?;
    let harm = Harm::begin(&site, "web", "network.partition", &json!({"to": ["192.0.2.0/24"]}), LONG)?;
    let filler = format!("{STATE}/filler");
    control.exec(Cmd::sh(format!(
        "dd if=/dev/zero of={filler} bs=64k; dd if=/dev/zero of={filler}-2 bs=1"
    )))?;
    ensure!(control.space(STATE)?.available == 0, "{:?}", control.space(STATE)?);
    let token = site.lab.fracas(&["tokens", "create"])?;
    ensure!(!token.success(), "there is still room in the store: {token:?}");
    let event = Instant::now();
    let stopped = site.lab.fracas(&["stop", &harm.run])?;
    all_gone(std::slice::from_ref(&harm), "stop on a full disk", event, KILLED)?;
    ensure!(stopped.success(), "{stopped:?}");
    control.exec(Cmd::sh(format!("rm {filler} {filler}-2")))?.ok()?;
    let run = harm.is_over()?;
    ensure!(run["cleanup"] == "proven", "{run}");
    let read = Cmd::sh(format!("find {STATE}/audit -type f -exec cat {{}} +"));
    let audit = || {
        let lines = control.exec(read.clone())?.ok()?;
        Ok(lines.lines().any(|line| line.contains("Runs/Stop") && line.contains(&harm.run)))
    };
    wait::until("the stop is in the audit log", KILLED, audit)?;
    site.all_clean()
}
