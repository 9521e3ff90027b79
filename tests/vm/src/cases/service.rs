//! The agent's unit is stopped, restarted, masked and killed over and over while faults act: each is undone, and the unit comes back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::held::{Held, KILLED, clean_after, clean_when_done, expect_no_agent, until_clean};
use super::shell::{BEGIN, END, elapsed, main_pid};
use super::{Case, Extent, Figures};
use crate::site::Site;

pub(super) const CASES: [Case; 4] = [
    Case {
        name: "stop-unit",
        what: "the unit is stopped, which is a SIGTERM, while five faults act",
        extent: Extent::Long,
        run: stopped,
    },
    Case {
        name: "restart",
        what: "the unit is restarted while five faults act",
        extent: Extent::Long,
        run: restarted,
    },
    Case {
        name: "mask",
        what: "the unit is masked, and then stopped, while five faults act",
        extent: Extent::Long,
        run: masked,
    },
    Case {
        name: "crash-loop",
        what: "each agent that the unit starts is killed, five times, while five faults act",
        extent: Extent::Long,
        run: crash_looped,
    },
];

const KILLS: u32 = 5;
/// For all kills, in a slow machine.
const LOOP: Duration = Duration::from_secs(180);
const START: Duration = Duration::from_secs(120);

fn stopped(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_when_done(site, figures, "systemctl stop fracas-agent", KILLED)?;
    figures.add("clean as systemctl stop returns", took, KILLED);
    expect_no_agent(site)?;
    held.expect_footprint(site)?;
    site.machine().sh_within("systemctl start fracas-agent", START)?.ok()?;
    // The agent itself has undone them.
    held.expect_ended(site, &["ended_early"])
}

fn restarted(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_after(site, ":", "systemctl restart --no-block fracas-agent")?;
    figures.add("clean after systemctl restart", took, KILLED);
    held.expect_ended(site, &["ended_early"])
}

fn masked(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    // Apart from the stop: process 1 reads all of its units again for it.
    site.machine().sh("systemctl mask --quiet fracas-agent")?.ok()?;
    let took = clean_when_done(site, figures, "systemctl stop fracas-agent", KILLED)?;
    figures.add("clean as systemctl stop of a masked unit returns", took, KILLED);
    expect_no_agent(site)?;
    held.expect_footprint(site)?;
    let start = site.machine().sh_within("systemctl start fracas-agent", START)?;
    ensure!(!start.success(), "a masked unit was started");
    unmask(site)?;
    held.expect_ended(site, &["ended_early"])
}

fn unmask(site: &Site) -> Result<()> {
    let line = "systemctl unmask --quiet fracas-agent && systemctl start fracas-agent";
    site.machine().sh_within(line, START)?.ok().map(drop)
}

fn crash_looped(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let restarts_before = restarts(site)?;
    // Whether the host is clean after the first kill is watched while the others go on.
    let watch = format!("{BEGIN}; {{ echo clean $({}); }} &", until_clean());
    let pid = main_pid("fracas-agent");
    let line = format!(
        "killed=0; last=0; while [ $killed -lt {KILLS} ]; do pid=$({pid}); \
         if [ $pid != 0 ] && [ $pid != $last ] && kill -KILL $pid; then killed=$((killed + 1)); last=$pid; \
         if [ $killed = 1 ]; then {watch} fi; fi; done; echo killed $({END}); wait"
    );
    let printed = site.machine().sh_within(&line, LOOP)?.ok()?;
    let figure = |name: &str| elapsed(printed.lines().find(|line| line.starts_with(name)).unwrap_or_default());
    figures.add("clean after the first of five kills", figure("clean")?, KILLED);
    figures.note("five agents are killed as they start", figure("killed")?);
    site.ready()?;
    let came_back = restarts(site)?.saturating_sub(restarts_before);
    ensure!(
        came_back >= KILLS,
        "the unit was started again {came_back} times after {KILLS} kills"
    );
    held.expect_ended(site, &["guardian", "rescue"])
}

fn restarts(site: &Site) -> Result<u32> {
    let shown = site
        .machine()
        .sh("systemctl show --property NRestarts --value fracas-agent")?
        .ok()?;
    shown.trim().parse().with_context(|| format!("NRestarts is {shown:?}"))
}
