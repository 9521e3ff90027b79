//! The wall clock of agent and controller is set a year forward and back while a fault acts: it ends when it would have ended.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::shell::elapsed;
use super::{Case, Extent, Figures};
use crate::site::{PARTITION, Site};

pub(super) const CASES: [Case; 2] = [
    Case {
        name: "clock-forward",
        what: "the wall clock is set a year forward during a partition",
        extent: Extent::Long,
        run: forward,
    },
    Case {
        name: "clock-back",
        what: "the wall clock is set a year back during a partition",
        extent: Extent::Long,
        run: back,
    },
];

const LASTS: Duration = Duration::from_secs(45);
/// What the end may take beyond the duration: 2 s are promised, and a look takes up to one in a slow machine.
const LATE: Duration = Duration::from_secs(5);
/// How much shorter it may look: the watcher sees the begin later than it was.
const EARLY: Duration = Duration::from_secs(2);
/// Nothing may set the clock right meanwhile. Prints what was running and is stopped; this image has no such service, another may.
const STOP_SYNCHRONISING: &str = "for service in systemd-timesyncd chrony ntpsec; do \
    if systemctl --quiet is-active $service; then systemctl stop $service || exit 1; echo $service; fi; done";
/// Where the watcher writes since when, and until when, a rule of ours was in the kernel.
const SEEN: &str = "/run/fracas-test-seen";

fn forward(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    step(site, figures, "1 year", "forward")
}

fn back(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    step(site, figures, "1 year ago", "back")
}

fn step(site: &mut Site, figures: &mut Figures<'_>, to: &str, direction: &str) -> Result<()> {
    site.ready()?;
    let before = site.machine().footprint()?;
    watch(site)?;
    let lasts = format!("{}s", LASTS.as_secs());
    let run = site.attack(&PARTITION, &lasts)?;
    let was = site.machine().sh("echo $(date +%s) $(cut -d . -f 1 /proc/uptime)")?.ok()?;
    let stopped = site.machine().sh(STOP_SYNCHRONISING)?.ok()?;
    site.machine().sh(&format!("date --set '{to}'"))?.ok()?;
    site.expect_cut_off().context("after the step")?;
    let run = site.finished(&run)?;
    let cause = &run["injections"][0]["ended_by"];
    ensure!(cause == "duration_elapsed", "the fault was ended by {cause}: {run:#}");
    let acted = acted(site)?;
    ensure!(
        acted + EARLY >= LASTS,
        "the fault acted for {:.1} s of {lasts}",
        acted.as_secs_f64()
    );
    figures.add(format!("a fault of {lasts}, the clock set a year {direction}"), acted, LASTS + LATE);
    ensure!(site.is_connected_and_clean()?, "the host is not proven clean after the step");
    let took = run_time(site, run["started_at"].as_str(), run["finished_at"].as_str())?;
    ensure!(
        took >= LASTS && took < LASTS * 4,
        "by its document the run took {} s: {run:#}",
        took.as_secs()
    );
    set_right(site, &was)?;
    for service in stopped.lines() {
        site.machine().sh(&format!("systemctl start {service}"))?.ok()?;
    }
    site.ready().context("after the clock is set right")?;
    site.machine().expect_footprint(&before)
}

/// In the background, from before the fault begins.
fn watch(site: &Site) -> Result<()> {
    let ours = "nft list tables | grep -q fracas";
    let watcher = format!(
        "until {ours}; do sleep 0.1; done; read begin rest </proc/uptime; while {ours}; do sleep 0.1; done; read end rest </proc/uptime; \
         echo $begin $end >{SEEN}"
    );
    let line = format!("rm -f {SEEN}; sh -c '{watcher}' >/dev/null 2>&1 </dev/null &");
    site.machine().sh(&line)?.ok().map(drop)
}

fn acted(site: &Site) -> Result<Duration> {
    let seen = site.machine().sh(&format!("cat {SEEN} && rm {SEEN}"))?.ok()?;
    elapsed(&seen)
}

fn run_time(site: &Site, begin: Option<&str>, end: Option<&str>) -> Result<Duration> {
    let (begin, end) = begin.zip(end).context("a finished run has a begin and an end")?;
    let printed = site
        .machine()
        .sh(&format!("date --date '{begin}' +%s.%N; date --date '{end}' +%s.%N"))?
        .ok()?;
    elapsed(&printed.replace('\n', " "))
}

/// Sets the clock to what it would be, by a clock that was not set.
fn set_right(site: &Site, was: &str) -> Result<()> {
    let line = "set -- $was; now=$(cut -d . -f 1 /proc/uptime); date --set \"@$(($1 + now - $2))\"";
    site.machine().sh(&format!("was='{}'; {line}", was.trim()))?.ok().map(drop)
}
