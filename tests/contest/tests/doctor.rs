//! What hosts say that they can do, held against this kernel and against what they then do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_contest::{Site, impossible};
use tests_harness::lab::AGENT;
use tests_harness::{Then, wait};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn every_kind_that_a_host_says_it_can_do_is_accepted_by_it_and_a_lost_host_says_nothing() -> Result<()> {
    if impossible() {
        return Ok(());
    }
    let site = Site::start("doctor", &["web"])?;
    let doctors = ask(&site)?;
    let web = of(&doctors, "web")?;
    for fault in agent_faults::registry() {
        let (kind, description) = (fault.kind().to_string(), fault.describe());
        let said = web["kinds"].as_array().into_iter().flatten().find(|k| k["fault"] == kind.as_str());
        let said = said.with_context(|| format!("nothing is said of {kind}"))?;
        ensure!(said["allowed"] == true && said["can"] == "yes", "{said}");
        let params = &description.examples.first().context("an example")?.params;
        let answer = site.plan("web", &kind, params)?;
        ensure!(answer["accepted"] == true, "{kind} can be done and is refused: {answer}");
    }
    // This kernel's own configuration, read by other means, says the same of netem.
    let netem = part(web, "sch_netem")?;
    let listed = std::fs::read_to_string("/proc/kallsyms")?
        .lines()
        .any(|line| line.contains(" netem_enqueue"));
    ensure!((netem["can"] == "yes") >= listed, "{netem}");
    ensure!(
        part(web, "nf_tables")?["can"] == "yes" && part(web, "journal")?["can"] == "yes",
        "{web}"
    );

    site.lab.kill_agent_and_guardian("web", Then::StaysDown)?;
    let lost = || Ok(of(&ask(&site)?, "web")?["can"] == "not_evaluated");
    wait::until("the lost host is not evaluated", SOON, lost)?;
    let said = site.lab.fracas(&["hosts", "doctor", "web"])?;
    ensure!(said.code() == Some(1) && said.stdout.contains("not evaluated"), "{said:?}");
    site.lab.start_agent("web")?;
    site.lab.all_connected()?;
    ensure!(site.host("web").service(AGENT)?.pid.is_some(), "the agent is back");
    site.all_clean()
}

/// Every host's answer; the exit code says whether all can do all, so a 1 is an answer too.
fn ask(site: &Site) -> Result<Vec<Value>> {
    let said = site.lab.fracas(&["hosts", "doctor", "-o", "json"])?;
    ensure!(matches!(said.code(), Some(0 | 1)), "{said:?}");
    let list: Value = serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn of<'a>(doctors: &'a [Value], host: &str) -> Result<&'a Value> {
    doctors
        .iter()
        .find(|doctor| doctor["host"] == host)
        .with_context(|| format!("nothing of {host}"))
}

fn part<'a>(host: &'a Value, name: &str) -> Result<&'a Value> {
    let mut checks = host["checks"].as_array().into_iter().flatten();
    checks
        .find(|check| check["name"] == name)
        .with_context(|| format!("nothing of {name}"))
}
