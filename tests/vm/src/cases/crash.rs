//! The agent is killed, and the machine is reset or rebooted, while faults act: what undoes them needs no controller.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::held::{CLEAN, GIVE_UP, Held, KILLED, clean_after, until};
use super::shell::{END, elapsed, main_pid};
use super::{Case, Extent, Figures};
use crate::machine::Machine;
use crate::site::Site;

pub(super) const CASES: [Case; 3] = [
    Case {
        name: "kill",
        what: "the agent is killed while five faults act",
        extent: Extent::Short,
        run: killed,
    },
    Case {
        name: "reset",
        what: "the machine is reset while five faults act",
        extent: Extent::Short,
        run: reset,
    },
    Case {
        name: "reboot",
        what: "the machine is rebooted in an orderly way while five faults act",
        extent: Extent::Long,
        run: rebooted,
    },
];

/// Since systemd began. The kernel and its initial file system come before, and take 20 s where a processor is emulated.
const BOOTED: Duration = Duration::from_secs(30);

fn killed(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_after(site, &format!("agent=$({})", main_pid("fracas-agent")), "kill -KILL $agent")?;
    figures.add("clean after kill -9 of the agent", took, KILLED);
    held.expect_ended(site, &["guardian", "rescue"])
}

fn reset(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    // The ballast and the controller's records are to be there after the reset.
    site.machine().sh("sync")?.ok()?;
    site.machine_mut().reset()?;
    clean_after_boot(site.machine(), figures, "a reset while five faults act", CLEAN)?;
    site.machine().settle()?;
    expect_rescued(site.machine(), held.runs().len())?;
    held.expect_ended(site, &["boot"])
}

fn rebooted(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    site.machine_mut().reboot()?;
    clean_after_boot(site.machine(), figures, "a reboot while five faults act", CLEAN)?;
    ready_after_boot(site, site.machine(), figures, "a reboot")?;
    site.machine().settle()?;
    // The agent undoes them as its unit is stopped; the rescue at boot is for what it did not get done.
    held.expect_ended(site, &["ended_early", "boot"])
}

/// Waits until the machine is clean, which a line of `sh` says, and records that as time since systemd began.
pub(super) fn clean_after_boot(machine: &Machine, figures: &mut Figures<'_>, what: &str, is_clean: &str) -> Result<()> {
    let printed = machine.sh_within(&format!("begin=0; {}", until(is_clean)), GIVE_UP)?.ok()?;
    let (clean, systemd) = (elapsed(&printed)?, systemd_began(machine)?);
    figures.note("the kernel had begun before systemd", systemd);
    figures.add(format!("clean after {what}"), clean.saturating_sub(systemd), BOOTED);
    Ok(())
}

/// Waits until the controller counts the machine's host as connected and clean, and notes that as time since systemd began.
pub(super) fn ready_after_boot(site: &Site, machine: &Machine, figures: &mut Figures<'_>, what: &str) -> Result<()> {
    site.host_ready_within(machine.name(), GIVE_UP)?;
    let connected = elapsed(&machine.sh(&format!("begin=0; {END}"))?.ok()?)?;
    figures.note(
        format!("connected and clean after {what}"),
        connected.saturating_sub(systemd_began(machine)?),
    );
    Ok(())
}

/// Every journal of these faults has survived, and was closed at this boot before there was a network.
pub(super) fn expect_rescued(machine: &Machine, faults: usize) -> Result<()> {
    let rescued = machine.sh("journalctl --boot --unit fracas-rescue --output cat")?.ok()?;
    let undone = rescued.lines().filter(|line| line.starts_with("undone ")).count();
    ensure!(undone == faults, "the rescue at boot undid {undone} of {faults} faults: {rescued}");
    Ok(())
}

/// When systemd began, in time since the kernel did.
fn systemd_began(machine: &Machine) -> Result<Duration> {
    let shown = machine.sh("systemctl show --property UserspaceTimestampMonotonic --value")?.ok()?;
    let micros = shown
        .trim()
        .parse()
        .with_context(|| format!("a number of microseconds, not {shown:?}"))?;
    Ok(Duration::from_micros(micros))
}
