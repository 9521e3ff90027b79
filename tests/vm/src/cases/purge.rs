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

/// Folders of the agent that no comparison looks at: in a footprint the groups of units come and go, and the agent's slice with them.
const NO_FOLDERS: &str = "! ls -d /run/fracas-agent /var/cache/fracas-agent /sys/fs/cgroup/fracas* 2>/dev/null | grep .";
/// Every unit of ours that is installed or that systemd still knows, and not the controller's and those of the machine's own kit.
const UNITS: &str = "{ systemctl list-unit-files --no-legend --no-pager 'fracas*'; systemctl list-units --all --no-legend --plain --no-pager 'fracas*'; } \
                     | grep -vE '^fracas-(controller|test-)'";

fn run(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    site.attack(&PARTITION, LASTS)?;
    site.expect_cut_off()?;
    let begin = Instant::now();
    site.purge()?;
    figures.add("apt-get purge during a partition", begin.elapsed(), PURGED);
    site.machine().sh("ping -c 1 -W 5 db")?.ok()?;
    let before = site.before_agent().context("the agent was installed here")?;
    site.machine().expect_footprint(&before.footprint)?;
    site.machine().expect_network(&before.network)?;
    let now = site.files()?;
    let appeared: Vec<&str> = now.difference(&before.files).map(String::as_str).collect();
    let vanished: Vec<&str> = before.files.difference(&now).map(String::as_str).collect();
    ensure!(appeared.is_empty(), "files were left: {}", appeared.join(" "));
    ensure!(vanished.is_empty(), "files are gone that were there before: {}", vanished.join(" "));
    site.machine().sh(NO_FOLDERS)?.ok().context("a folder of the agent's was left")?;
    // Without a match some versions of systemctl fail.
    let units = site.machine().sh(UNITS)?.stdout;
    ensure!(units.is_empty(), "units were left: {units}");
    expect_no_process(site)
}
