//! The controller is stopped, killed, and cut off in one direction while faults act: they end with their leases.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::held::{Held, LEASE_LOST, clean_after};
use super::shell::main_pid;
use super::{Case, Extent, Figures};
use crate::site::Site;

pub(super) const CASES: [Case; 4] = [
    Case {
        name: "hang-controller",
        what: "the controller is stopped by SIGSTOP while five faults act",
        extent: Extent::Long,
        run: hung,
    },
    Case {
        name: "kill-controller",
        what: "the controller is killed while five faults act, and its unit starts it again",
        extent: Extent::Long,
        run: killed,
    },
    Case {
        name: "loss-to-agent",
        what: "every packet from the controller to the agent is lost while five faults act",
        extent: Extent::Long,
        run: lost_to_agent,
    },
    Case {
        name: "loss-to-controller",
        what: "every packet from the agent to the controller is lost while five faults act",
        extent: Extent::Long,
        run: lost_to_controller,
    },
];

/// How long the controller renews the leases of a host that it does not hear: three and a half of the shipped controller.toml's heartbeats.
pub(super) const UNHEARD: Duration = Duration::from_millis(7 * HEARTBEAT_MS / 2);
const HEARTBEAT_MS: u64 = 5_000;

/// Sets `controller` to its process id.
fn controller_pid() -> String {
    format!("controller=$({})", main_pid("fracas-controller"))
}

fn hung(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_after(site, &controller_pid(), "kill -STOP $controller")?;
    figures.add("clean after SIGSTOP of the controller", took, LEASE_LOST);
    held.expect_footprint(site)?;
    site.machine().sh(&format!("{}; kill -CONT $controller", controller_pid()))?.ok()?;
    held.expect_ended(site, &["lease_lost"])
}

fn killed(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_after(site, &controller_pid(), "kill -KILL $controller")?;
    figures.add("clean after kill -9 of the controller", took, LEASE_LOST);
    // A controller that is back stops what it finds acting.
    held.expect_ended(site, &["lease_lost", "stop"])
}

fn lost_to_agent(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let took = lose(site, "sport")?;
    figures.add("clean after packets to the agent are lost", took, LEASE_LOST);
    Ok(())
}

fn lost_to_controller(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let took = lose(site, "dport")?;
    figures.add("clean after packets to the controller are lost", took, UNHEARD + LEASE_LOST);
    Ok(())
}

/// Drops what arrives at one end of the agent's connection. Controller and agent share the machine, and the other direction stays as it is.
fn lose(site: &mut Site, end: &str) -> Result<Duration> {
    let held = Held::begin(site)?;
    let act =
        format!("nft 'table inet test-one-way {{ chain input {{ type filter hook input priority 0; tcp {end} 7400 counter drop; }}; }}'");
    let took = clean_after(site, ":", &act)?;
    let lost = site.machine().sh("nft list table inet test-one-way")?.ok()?;
    site.machine().sh("nft delete table inet test-one-way")?.ok()?;
    let packets = lost.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next());
    let packets: u64 = packets.context("the rule has a counter")?.parse()?;
    ensure!(packets > 0, "no packet was lost: {lost}");
    held.expect_ended(site, &["lease_lost"])?;
    Ok(took)
}
