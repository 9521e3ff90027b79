//! The agent's package is purged while a neighbour is cut off: the network and the file system are as they were before it came.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::held::expect_no_process;
use super::{Case, Extent, Figures};
use crate::site::{LASTS, PARTITION, Site};

pub(super) const CASES: [Case; 1] = [Case {
    name: "purge",
    what: "the agent is purged during a partition",
    extent: Extent::Short,
    run,
}];

const PURGED: Duration = Duration::from_secs(120);

fn run(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    site.attack(&PARTITION, LASTS)?;
    site.expect_cut_off()?;
    let begin = Instant::now();
    site.purge()?;
    figures.add("apt-get purge during a partition", begin.elapsed(), PURGED);
    site.machine().sh("ping -c 1 -W 5 db")?.ok()?;
    let before = site.before_agent().context("the agent was installed here")?;
    site.expect_footprint(&before.footprint)?;
    let now = site.files()?;
    let appeared: Vec<&str> = now.difference(&before.files).map(String::as_str).collect();
    let vanished: Vec<&str> = before.files.difference(&now).map(String::as_str).collect();
    ensure!(appeared.is_empty(), "files were left: {}", appeared.join(" "));
    ensure!(vanished.is_empty(), "files are gone that were there before: {}", vanished.join(" "));
    expect_no_process(site)
}
