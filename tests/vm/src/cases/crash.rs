//! The agent is killed, and the machine is reset, while faults act: what puts both right needs no controller.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Case, Extent, Figures};
use crate::site::{BALLAST, PARTITION, Site};

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

const KILLED: Duration = Duration::from_secs(10);
/// Since the kernel began.
const BOOTED: Duration = Duration::from_secs(30);
const LASTS: &str = "5m";
const GIVE_UP: Duration = Duration::from_secs(240);
/// The neighbour answers, and nothing that carries our name is in the network or on the volume.
const CLEAN: &str = "! nft list tables | grep -q fracas && ! ls /var/tmp/.fracas-* >/dev/null 2>&1 && ping -c 1 -W 1 db >/dev/null 2>&1";

fn killed(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let before = site.footprint()?;
    site.attack(&PARTITION, LASTS)?;
    site.expect_cut_off()?;
    let kill = "pid=$(systemctl show --property MainPID --value fracas-agent); read begin rest </proc/uptime; kill -KILL \"$pid\"";
    let said = site.machine().sh_within(&format!("{kill}; {}", until_clean()), GIVE_UP)?.ok()?;
    figures.add("clean after kill -9 of the agent during a partition", elapsed(&said)?, KILLED);
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
    figures.add(
        "clean after a reset during a partition and a filled volume",
        elapsed(&said)?,
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

/// Prints `begin` and the time when all is well.
fn until_clean() -> String {
    format!("until {CLEAN}; do sleep 0.1; done; read end rest </proc/uptime; echo $begin $end")
}

fn elapsed(said: &str) -> Result<Duration> {
    let times: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [begin, end] = times[..] else {
        return Err(anyhow::anyhow!("two times, not {said:?}"));
    };
    Duration::try_from_secs_f64(end - begin).context("time goes on")
}
