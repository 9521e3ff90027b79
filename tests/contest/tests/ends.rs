//! The ordinary ends of a fault, each measured: its duration is over, it is stopped, everything is halted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_contest::{Harm, Site, all_gone, impossible};

/// What an agent may take for an end that it knows of.
const KNOWN: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(120);

#[test]
fn a_duration_elapses() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let lasts = Duration::from_secs(8);
    let site = Site::one_each("elapses")?;
    for family in ["cpu", "memory", "disk", "network", "process"] {
        let start = Instant::now();
        let harm = Harm::one_kind(&site, family, lasts)?;
        // It was applied at the latest when it was seen, and not before it was asked for.
        let seen = Instant::now();
        while harm.witness.sees()? {
            ensure!(
                seen.elapsed() < lasts + KNOWN,
                "{family} outlives its duration by more than {KNOWN:?}"
            );
        }
        ensure!(
            start.elapsed() + Duration::from_millis(500) > lasts,
            "{family} ended after {:?}",
            start.elapsed()
        );
        // Counted from before the order, so it says a little more than the undo took, and never less.
        let took = start.elapsed().saturating_sub(lasts);
        tests_harness::report::undone(&harm.fault, "its duration (from the order)", took, KNOWN);
        over(&harm, "duration_elapsed")?;
    }
    site.all_clean()
}

#[test]
fn a_run_is_stopped() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::one_each("stopped")?;
    for family in ["cpu", "memory", "disk", "network", "process"] {
        let harm = Harm::one_kind(&site, family, LONG)?;
        let event = Instant::now();
        site.lab.fracas(&["stop", &harm.run])?.ok()?;
        // Looked at once: whoever has the answer may rely on it.
        let took = event.elapsed();
        ensure!(!harm.witness.sees()?, "{family} still acts when its stop is answered");
        tests_harness::report::undone(&harm.fault, "stop", took, KNOWN);
        ensure!(took <= KNOWN, "{family} took {took:?} of at most {KNOWN:?} to stop");
        let run = over(&harm, "stop")?;
        ensure!(run["exit_code"] == 7 && run["verdict"] == "aborted", "{run}");
    }
    site.all_clean()
}

#[test]
fn a_halt_ends_attacks_on_three_hosts_and_holds_until_it_is_released() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::one_each("halted")?;
    let harms = Harm::every_kind(&site, LONG)?;
    ensure!(harms.len() >= 3, "three attacks at once");
    let event = Instant::now();
    site.lab.fracas(&["halt", "--reason", "the shop is down"])?.ok()?;
    all_gone(&harms, "halt", event, KNOWN)?;
    for harm in &harms {
        over(harm, "halt")?;
    }
    is_refused(&site)?;
    site.control()
        .kill9(tests_harness::lab::CONTROLLER, tests_harness::Then::StartsAgain)?;
    site.lab.controller_up()?;
    site.lab.all_connected()?;
    is_refused(&site)?;
    site.all_clean()?;
    site.lab.fracas(&["release", "--reason", "the shop is up"])?.ok()?;
    let harm = Harm::one_kind(&site, "process", Duration::from_secs(2))?;
    over(&harm, "duration_elapsed")?;
    site.all_clean()
}

/// A new attack is refused with the halt's exit code and its reason.
fn is_refused(site: &Site) -> Result<()> {
    let host = site.targets().next().context("a host to attack")?;
    let said = site
        .lab
        .fracas(&["attack", "process.pause", "name=redis-server", "--on", host, "--for", "5s"])?;
    ensure!(said.code() == Some(7) && said.stderr.contains("the shop is down"), "{said:?}");
    Ok(())
}

/// The run ended for this reason, and with proof.
fn over(harm: &Harm<'_>, ended_by: &str) -> Result<Value> {
    let run = harm.is_over()?;
    let injection = &run["injections"][0];
    ensure!(injection["state"] == "undone" && injection["ended_by"] == ended_by, "{injection}");
    ensure!(run["cleanup"] == "proven" && run["verdict"] != "passed", "{run}");
    Ok(run)
}
