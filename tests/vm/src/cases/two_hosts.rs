//! A second machine has an agent alone: it is enrolled over the network, cut off from the first machine while the controller there still hears it,
//! and reset while faults act.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::controller::UNHEARD;
use super::crash::{clean_after_boot, expect_rescued, ready_after_boot};
use super::held::{CLEAN, LEASE_LOST, expect_undone};
use super::install::LISTED;
use super::trial::{Before, injection, stop, undone};
use super::{Case, Extent, Figures};
use crate::machine::Machine;
use crate::site::{BALLAST, HOST, LASTS, SECOND, Site};

const NAME: &str = "two-hosts";

pub(super) const CASES: [Case; 1] = [Case {
    name: NAME,
    what: "a second host is enrolled, cut off from the first but not from the controller there, and reset while faults act",
    extent: Extent::Long,
    run,
}];

/// From the first host, by every address that the controller knows of it. It listens at one of them itself, and is spared there.
const CUT: [&str; 2] = ["network.partition", "to=host:web"];

fn run(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    join(site, figures).context("a second host joins")?;
    cut_off(site, figures).context("the second host is cut off from the first")?;
    reset(site, figures).context("the second host is reset")?;
    if !figures.in_time() {
        // Afterwards there is no second machine that could be asked.
        site.keep_logs(NAME)?;
    }
    site.end_second().context("the second host leaves")
}

fn join(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let begin = Instant::now();
    site.start_second()?;
    figures.note("the second machine has started", begin.elapsed());
    let begin = Instant::now();
    site.install_agent(site.second()?)?;
    figures.note("apt installs the agent on the second machine", begin.elapsed());
    site.enrol_machine(site.second()?, "app")?;
    let listed = site.host_ready_within(SECOND, LISTED * 4)?;
    figures.add("the second host is listed as connected and clean", listed, LISTED);
    Ok(())
}

fn cut_off(site: &Site, figures: &mut Figures<'_>) -> Result<()> {
    let (first, second) = (site.machine(), site.second()?);
    expect_answers(first, second)?;
    let before = [(first, Before::look_at(first)?), (second, Before::look_at(second)?)];
    let connected = connections(second)?;
    ensure!(!connected.is_empty(), "{SECOND} has no connection to port 7400");
    let run = site.attack_on(SECOND, &CUT, LASTS)?;
    let begin = Instant::now();
    // Until controller and agent would both have given each other up, if the packets between them were lost as well.
    while begin.elapsed() < UNHEARD + LEASE_LOST {
        expect_silence(first, second)?;
    }
    let host = site.host(SECOND)?;
    ensure!(
        host["connection"] == "connected",
        "the controller does not hear {SECOND} during a partition that spares it: {host:#}"
    );
    let partition = injection(site, &run)?;
    ensure!(
        partition["state"] == "holding",
        "the partition does not hold any more: {partition:#}"
    );
    let now = connections(second)?;
    ensure!(now == connected, "{SECOND} was connected from {connected:?} and is from {now:?}");
    figures.note("cut off from each other, and connected to the controller", begin.elapsed());
    stop(site, figures, "a partition between two hosts", &run)?;
    expect_answers(first, second)?;
    for (machine, before) in &before {
        before.expect_of(site, machine)?;
    }
    Ok(())
}

fn reset(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let second = site.second()?;
    let before = second.footprint()?;
    let runs = [site.attack_on(SECOND, &CUT, LASTS)?, site.attack_on(SECOND, &BALLAST, LASTS)?];
    expect_silence(site.machine(), second)?;
    second.sh("ls -d /var/tmp/.fracas-*")?.ok().context("no volume is filled")?;
    // The ballast and the journals are to be there after the reset.
    second.sh("sync")?.ok()?;
    site.second_mut()?.reset()?;
    let second = site.second()?;
    let is_clean = format!("{CLEAN} && ping -4 -c 1 -W 3 {HOST} >/dev/null 2>&1");
    clean_after_boot(second, figures, "a reset of the second host", &is_clean)?;
    ready_after_boot(site, second, figures, "a reset of the second host")?;
    second.settle()?;
    expect_rescued(second, runs.len())?;
    for run in &runs {
        // The host was lost to the controller meanwhile, and a run may have ended without its report.
        undone(site, run)?;
        expect_undone(site, run, &["boot"])?;
    }
    second.expect_footprint(&before)?;
    expect_answers(site.machine(), second)
}

/// What a machine asks another one, and how: echoes of both families, and a connection to nginx; nothing goes to the controller's port.
fn questions(of: &Machine) -> [(&'static str, String); 3] {
    let (v4, v6) = (of.v4(), of.v6());
    [
        ("an echo by IPv4", format!("ping -4 -c 2 -W 2 {v4}")),
        ("an echo by IPv6", format!("ping -6 -c 2 -W 2 {v6}")),
        ("a connection to port 80", format!("timeout 5 bash -c 'exec 3<>/dev/tcp/{v4}/80'")),
    ]
}

/// Each of the two machines gets every answer of the other.
fn expect_answers(one: &Machine, other: &Machine) -> Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        for (what, line) in questions(to) {
            let asked = from.sh(&line)?.ok();
            asked.with_context(|| format!("{} gets no answer of {}: {what}", from.name(), to.name()))?;
        }
    }
    Ok(())
}

/// Neither of the two machines gets any answer of the other.
fn expect_silence(one: &Machine, other: &Machine) -> Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        for (what, line) in questions(to) {
            let asked = from.sh(&line)?;
            let (name, silent) = (from.name(), to.name());
            ensure!(
                !asked.success(),
                "{name} gets an answer of {silent} during the partition: {what}: {}",
                asked.stdout
            );
        }
    }
    Ok(())
}

/// The local ends of a machine's connections to the controller; another one would show that the first was lost.
fn connections(machine: &Machine) -> Result<String> {
    let line = "ss -Htn 'dport = :7400' | awk '$1 == \"ESTAB\" { print $4 }' | sort";
    Ok(machine.sh(line)?.ok()?.trim().to_owned())
}
