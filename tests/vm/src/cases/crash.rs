//! The agent is killed, and the machine is reset or rebooted, while faults act: what undoes them needs no controller.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::held::{GIVE_UP, Held, KILLED, clean_after, until_clean};
use super::shell::{END, elapsed, main_pid};
use super::{Case, Extent, Figures};
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
    clean_after_boot(site, figures, "a reset")?;
    site.machine().settle()?;
    // Every journal survived, and was closed before there was a network.
    let rescued = site.machine().sh("journalctl --boot --unit fracas-rescue --output cat")?.ok()?;
    let undone = rescued.lines().filter(|line| line.starts_with("undone ")).count();
    let all = held.runs().len();
    ensure!(undone == all, "the rescue at boot undid {undone} of {all} faults: {rescued}");
    held.expect_ended(site, &["boot"])
}

fn rebooted(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    site.machine_mut().reboot()?;
    clean_after_boot(site, figures, "a reboot")?;
    site.connected_and_clean_within(GIVE_UP)?;
    let connected = elapsed(&site.machine().sh(&format!("begin=0; {END}"))?.ok()?)?;
    figures.note("connected and clean after a reboot", connected.saturating_sub(systemd_began(site)?));
    site.machine().settle()?;
    // The agent undoes them as its unit is stopped; the rescue at boot is for what it did not get done.
    held.expect_ended(site, &["ended_early", "boot"])
}

/// Waits until the host is clean, and records that as time since systemd began.
fn clean_after_boot(site: &Site, figures: &mut Figures<'_>, what: &str) -> Result<()> {
    let printed = site.machine().sh_within(&format!("begin=0; {}", until_clean()), GIVE_UP)?.ok()?;
    let (clean, systemd) = (elapsed(&printed)?, systemd_began(site)?);
    figures.note("the kernel had begun before systemd", systemd);
    figures.add(
        format!("clean after {what} while five faults act"),
        clean.saturating_sub(systemd),
        BOOTED,
    );
    Ok(())
}

/// When systemd began, in time since the kernel did.
fn systemd_began(site: &Site) -> Result<Duration> {
    let shown = site
        .machine()
        .sh("systemctl show --property UserspaceTimestampMonotonic --value")?
        .ok()?;
    let micros = shown
        .trim()
        .parse()
        .with_context(|| format!("a number of microseconds, not {shown:?}"))?;
    Ok(Duration::from_micros(micros))
}
