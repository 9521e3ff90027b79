//! The agent is killed, and the machine is reset, while faults act: what puts both right needs no controller.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::held::{GIVE_UP, KILLED, clean_after, until_clean};
use super::shell::{elapsed, main_pid};
use super::{Case, Extent, Figures};
use crate::site::{BALLAST, LASTS, PARTITION, Site};

pub(super) const CASES: [Case; 2] = [
    Case {
        name: "kill",
        what: "the agent is killed during a partition",
        extent: Extent::Short,
        run: killed,
    },
    Case {
        name: "reset",
        what: "the machine is reset while a volume is filled and a neighbour is cut off",
        extent: Extent::Short,
        run: reset,
    },
];

/// Since systemd began. The kernel and its initial file system come before, and take 20 s where a processor is emulated.
const BOOTED: Duration = Duration::from_secs(30);

fn killed(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let before = site.footprint()?;
    site.attack(&PARTITION, LASTS)?;
    site.expect_cut_off()?;
    let took = clean_after(site, &format!("agent=$({})", main_pid("fracas-agent")), "kill -KILL $agent")?;
    figures.add("clean after kill -9 of the agent during a partition", took, KILLED);
    site.ready()?;
    site.expect_footprint(&before)
}

fn reset(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let before = site.footprint()?;
    site.attack(&BALLAST, LASTS)?;
    site.attack(&PARTITION, LASTS)?;
    site.expect_cut_off()?;
    // The ballast is to be there after the reset.
    site.machine().sh("sync; ls /var/tmp/.fracas-*")?.ok()?;
    site.machine_mut().reset()?;
    let said = site.machine().sh_within(&format!("begin=0; {}", until_clean()), GIVE_UP)?.ok()?;
    let (clean, systemd) = (elapsed(&said)?, systemd_began(site)?);
    figures.note("the kernel had begun before systemd", systemd);
    figures.add(
        "clean after a reset during a partition and a filled volume",
        clean.saturating_sub(systemd),
        BOOTED,
    );
    site.machine().settle()?;
    // Both journals survived, and were closed before there was a network.
    let rescued = site.machine().sh("journalctl --boot --unit fracas-rescue --output cat")?.ok()?;
    let undone = rescued.lines().filter(|line| line.starts_with("undone ")).count();
    ensure!(undone == 2, "the rescue at boot undid {undone} of 2 faults: {rescued}");
    site.ready()?;
    site.expect_footprint(&before)
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
