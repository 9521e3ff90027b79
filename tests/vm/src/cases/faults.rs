//! One fault of each family: its effect is measured by means of the host's own, and is gone after a stop, with nothing left behind.

use anyhow::Result;

use super::trial::{Measure, PING_MS, Trial, rounds};
use super::{Case, Extent, Figures};
use crate::site::Site;

pub(super) const CASES: [Case; 1] = [Case {
    name: "faults",
    what: "one fault of each family acts, and is undone",
    extent: Extent::Short,
    run,
}];

/// Percent of both processors that are not idle.
const BUSY: Measure = Measure::Host(
    "a=$(grep '^cpu ' /proc/stat); sleep 3; b=$(grep '^cpu ' /proc/stat); echo \"$a $b\" | awk '{ \
     for (i = 2; i <= 9; i++) { x += $i; y += $(i + 11) } print 100 - 100 * ($16 - $5) / (y - x) }'",
);
/// MiB of memory that are not available.
const MEMORY: Measure =
    Measure::Host("awk '/^MemAvailable:/ { a = $2 } /^MemTotal:/ { t = $2 } END { print (t - a) / 1024 }' /proc/meminfo");
/// MiB that are used of the root's volume.
const DISK: Measure = Measure::Host("df -B1048576 --output=used /var/tmp | tail -n 1");
/// Seconds without an answer.
const SILENT: Measure = Measure::Host("if timeout 5 redis-cli ping >/dev/null; then echo 0; else echo 5; fi");

fn run(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let trials = [
        Trial::new("cpu.burn percent=60", BUSY, 25.0),
        Trial::new("memory.hog amount=128MiB", MEMORY, 100.0),
        Trial::new("disk.fill amount=300MiB path=/var/tmp", DISK, 280.0),
        Trial::new("process.pause name=redis-server", SILENT, 5.0),
        Trial::new("network.delay delay=200ms to=db", PING_MS, 150.0).by_netem(),
    ];
    let one_by_one: Vec<&[Trial]> = trials.chunks(1).collect();
    rounds(site, figures, &one_by_one)
}
