//! One fault of each family: its effect is measured by means of the host's own, and is gone after a stop, with nothing left behind.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests_harness::wait;

use super::{Case, Extent, Figures};
use crate::site::Site;

pub(super) const CASES: [Case; 1] = [Case {
    name: "faults",
    what: "one fault of each family acts, and is undone",
    extent: Extent::Short,
    run,
}];

/// From the operator's command to its answer, in an emulated machine whose processors may be what the fault keeps busy.
const UNDONE: Duration = Duration::from_secs(20);
const ACTS: Duration = Duration::from_secs(60);
const LASTS: &str = "5m";

struct Trial {
    fault: &'static [&'static str],
    /// A line of `sh` that prints one number.
    measure: &'static str,
    /// By how much the number is larger while the fault acts, at least.
    more: f64,
}

const TRIALS: [Trial; 5] = [
    Trial {
        fault: &["cpu.burn", "percent=60"],
        // Percent of both processors that are not idle.
        measure: "a=$(grep '^cpu ' /proc/stat); sleep 3; b=$(grep '^cpu ' /proc/stat); echo \"$a $b\" | awk '{ \
                  for (i = 2; i <= 9; i++) { x += $i; y += $(i + 11) } print 100 - 100 * ($16 - $5) / (y - x) }'",
        more: 25.0,
    },
    Trial {
        fault: &["memory.hog", "amount=128MiB"],
        measure: "awk '/^MemAvailable:/ { a = $2 } /^MemTotal:/ { t = $2 } END { print (t - a) / 1024 }' /proc/meminfo",
        more: 100.0,
    },
    Trial {
        fault: &["disk.fill", "amount=300MiB", "path=/var/tmp"],
        measure: "df -B1048576 --output=used /var/tmp | tail -n 1",
        more: 280.0,
    },
    Trial {
        fault: &["process.pause", "name=redis-server"],
        // Seconds without an answer.
        measure: "if timeout 5 redis-cli ping >/dev/null; then echo 0; else echo 5; fi",
        more: 5.0,
    },
    Trial {
        fault: &["network.delay", "delay=200ms", "to=db"],
        // The median of five.
        measure: "ping -c 5 -i 0.3 -W 3 db | sed -n 's/.*time=\\([0-9.]*\\).*/\\1/p' | sort -n | sed -n 3p",
        more: 150.0,
    },
];

fn run(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    for trial in &TRIALS {
        trial.run(site, figures).with_context(|| trial.fault.join(" "))?;
    }
    Ok(())
}

impl Trial {
    fn run(&self, site: &Site, figures: &mut Figures<'_>) -> Result<()> {
        let name = self.fault[0];
        let (before, without) = (site.footprint()?, self.measure(site)?);
        let begin = Instant::now();
        let run = site.attack(self.fault, LASTS)?;
        let acts = || Ok(Some(self.measure(site)?).filter(|with| with - without >= self.more));
        let (with, _) = wait::for_some(format_args!("more than {without:.1}"), ACTS, acts)?;
        figures.note(format!("{name} acts: {without:.1} became {with:.1}"), begin.elapsed());
        if name.starts_with("network.") {
            let queues = site.machine().sh("tc qdisc show")?.ok()?;
            ensure!(queues.contains("netem"), "not made by the kernel's netem: {queues}");
        }
        let begin = Instant::now();
        site.fracas(&["stop", &run, "--reason", "measured"])?.ok()?;
        let stopped = begin.elapsed();
        let again = self.measure(site)?;
        ensure!(
            again - without < self.more / 2.0,
            "stopped, and the effect is still there: {without:.1} before, {again:.1} after"
        );
        figures.add(format!("{name} is undone: {again:.1} again"), stopped, UNDONE);
        site.expect_footprint(&before)?;
        ensure!(site.is_connected_and_clean()?, "the host is not proven clean");
        Ok(())
    }

    fn measure(&self, site: &Site) -> Result<f64> {
        let said = site.machine().sh(self.measure)?;
        let number = said.stdout.trim().parse();
        number.with_context(|| format!("measured {:?} {:?}", said.stdout, said.stderr))
    }
}
