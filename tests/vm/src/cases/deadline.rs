//! Nothing of ours is left that could undo a delay by netem: the kernel ends it by its own deadline.

use anyhow::{Context, Result, ensure};

use super::ended::{ARM, DISARM};
use super::held::{GIVE_UP, KILL_BOTH, LEASE_LOST, both_pids, expect_no_process};
use super::shell::{BEGIN, END, elapsed};
use super::trial::{Before, PING6_MS};
use super::{Case, Extent, Figures};
use crate::site::{LASTS, Site};

pub(super) const CASES: [Case; 1] = [Case {
    name: "netem-deadline",
    what: "agent and guardian are killed during a delay by netem, and neither unit nor last guard does anything about it",
    extent: Extent::Long,
    run,
}];

const DELAY: [&str; 4] = ["network.delay", "delay=200ms", "protocol=icmp", "to=db6"];
/// How much later than before an echo is at least while the delay acts.
const LATE_MS: f64 = 150.0;
/// The last guard neither runs nor is started when there is a journal.
const NO_GUARD: &str = "systemctl stop fracas-guard.path fracas-guard.service";
/// The link that the packets are led to, with its queue, and the journal that says how to remove it.
const LEFT: &str =
    "tc qdisc show | grep ' dev fracas' | grep netem && ls -d /sys/class/net/fracas* && ls -d /var/lib/fracas/agent/journal/*";

fn run(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let (before, usual) = (Before::look(site)?, PING6_MS.take(site)?);
    let delay = site.attack(&DELAY, LASTS)?;
    site.machine().sh(LEFT)?.ok().context("the delay is not made by netem")?;
    let late = PING6_MS.take(site)? - usual;
    ensure!(late > LATE_MS, "echoes are {late:.1} ms late during a delay");
    site.machine().sh(NO_GUARD)?.ok()?;
    site.machine().sh(DISARM)?.ok()?;
    let line = format!(
        "set -e; {}; {BEGIN}; {KILL_BOTH}; until {}; do sleep 0.1; done; {END}",
        both_pids(),
        in_time(usual)
    );
    let took = elapsed(&site.machine().sh_within(&line, GIVE_UP)?.ok()?)?;
    figures.add(
        "a delay ends in the kernel after kill -9 of all that could undo it",
        took,
        LEASE_LOST,
    );
    // Otherwise something has undone it.
    expect_no_process(site)?;
    site.machine()
        .sh(LEFT)?
        .ok()
        .context("the delay was undone, and not by the kernel alone")?;
    site.machine().sh(ARM)?.ok()?;
    site.ready()?;
    let run = site.finished(&delay)?;
    let ended = &run["injections"][0];
    ensure!(
        ended["state"] == "undone" && ended["ended_by"] == "rescue",
        "the delay is {} and was ended by {}: {run:#}",
        ended["state"],
        ended["ended_by"]
    );
    before.expect(site)
}

/// Succeeds when an echo comes back in less time than the delay takes.
fn in_time(usual: f64) -> String {
    let limit = usual + LATE_MS;
    format!("ping -6 -U -c 1 -W 2 db | sed -n 's/.*time=\\([0-9.]*\\).*/\\1/p' | awk '{{ if ($1 < {limit}) ok = 1 }} END {{ exit !ok }}'")
}
