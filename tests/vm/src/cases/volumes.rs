//! Volumes of several file systems are filled: the space comes back, also from a file that was moved away meanwhile.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tests_harness::wait;

use super::trial::{AGENT, Before, Measure, Trial, UNDONE, injection, rounds, undone};
use super::{Case, Extent, Figures};
use crate::site::{LASTS, Site};

pub(super) const CASES: [Case; 1] = [Case {
    name: "volumes",
    what: "volumes of ext4, xfs and btrfs are filled, and their files are moved",
    extent: Extent::Long,
    run,
}];

struct Volume {
    name: &'static str,
    fault: &'static str,
    /// MiB that are used.
    used: Measure,
}

const VOLUMES: [Volume; 3] = [
    Volume {
        name: "ext4",
        fault: "disk.fill amount=400MiB path=/srv/ext4",
        used: Measure::Host("df -B1048576 --output=used /srv/ext4 | tail -n 1"),
    },
    Volume {
        name: "xfs",
        fault: "disk.fill amount=400MiB path=/srv/xfs",
        used: Measure::Host("df -B1048576 --output=used /srv/xfs | tail -n 1"),
    },
    Volume {
        name: "btrfs",
        fault: "disk.fill amount=400MiB allow=cow path=/srv/btrfs",
        used: Measure::Host("sync -f /srv/btrfs; df -B1048576 --output=used /srv/btrfs | tail -n 1"),
    },
];

/// Larger than what the shipped policy keeps free of a volume, and without a block of its own at first.
const MAKE: &str = "set -e; for kind in ext4 xfs btrfs; do truncate -s 1700M /var/tmp/$kind.volume; mkfs.$kind -q /var/tmp/$kind.volume; \
                    mkdir -p /srv/$kind; mount -o loop /var/tmp/$kind.volume /srv/$kind; done";
const REMOVE: &str = "set -e; for kind in ext4 xfs btrfs; do umount /srv/$kind; rmdir /srv/$kind; rm /var/tmp/$kind.volume; done";

fn run(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let bare = Before::look(site)?;
    site.machine().sh(MAKE)?.ok()?;
    let trials = VOLUMES.map(|volume| Trial::new(volume.fault, volume.used, 380.0));
    rounds(site, figures, &[&trials])?;
    for volume in &VOLUMES {
        volume.moved(site, figures).context(volume.name)?;
    }
    site.machine().sh(REMOVE)?.ok()?;
    bare.expect(site)
}

impl Volume {
    /// Who moves the file ends the fault; the file is found by its handle and its space comes back.
    fn moved(&self, site: &Site, figures: &mut Figures<'_>) -> Result<()> {
        let (before, used) = (Before::look(site)?, self.used.take(site)?);
        let words: Vec<&str> = self.fault.split_whitespace().collect();
        let run = site.attack(&words, LASTS)?;
        let volume = format!("/srv/{}", self.name);
        let aside = format!("mkdir {volume}/aside && mv {volume}/.fracas-* {volume}/aside/renamed && stat -c %b {volume}/aside/renamed");
        let blocks = site.machine().sh(&aside)?.ok()?;
        ensure!(blocks.trim() != "0", "the file that was moved takes no space");
        let begin = Instant::now();
        let gone = || Ok(site.machine().sh(&format!("test -e {volume}/aside/renamed"))?.code() == Some(1));
        wait::until("the file that was moved is gone", UNDONE, gone)?;
        figures.add(format!("{}: a file that was moved is removed", self.name), begin.elapsed(), UNDONE);
        figures.add(format!("{}: undone by the agent", self.name), undone(site, &run)?, AGENT);
        let cause = injection(site, &run)?["ended_by"].take();
        ensure!(cause == "ended_early", "the fault was ended by {cause}");
        let after = self.used.take(site)?;
        ensure!((after - used).abs() < 20.0, "{used} MiB were used before, and {after} MiB are now");
        site.machine().sh(&format!("rmdir {volume}/aside"))?.ok()?;
        before.expect(site)
    }
}
