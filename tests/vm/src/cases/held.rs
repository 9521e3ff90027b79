//! The faults that a case holds while something fails, and the time from then until the host is clean.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests_harness::footprint::Footprint;

use super::Figures;
use super::shell::{BEGIN, END, elapsed, main_pid};
use crate::site::{BALLAST, LASTS, Site};

/// The neighbour answers, nothing that carries our name is in the network, on the volume or among the control groups, and nginx is not frozen. Its
/// group is not there yet early in a boot.
pub(super) const CLEAN: &str = "! { nft list tables; ls -d /var/tmp/.fracas-* /sys/class/net/fracas* /sys/fs/cgroup/fracas-*; \
    grep 'frozen 1' /sys/fs/cgroup/system.slice/nginx.service/cgroup.events; } 2>/dev/null | grep -qE 'fracas|frozen' && \
    ping -4 -c 1 -W 3 db >/dev/null 2>&1";
/// Each of the five faults is there: a rule, a file, a link that netem delays, a frozen unit and a control group.
const ACTING: &str = "nft list tables | grep -q fracas && ls -d /var/tmp/.fracas-* && ls -d /sys/class/net/fracas* && \
    tc qdisc show | grep ' dev fracas' | grep netem && ls -d /sys/fs/cgroup/fracas-* && \
    grep 'frozen 1' /sys/fs/cgroup/system.slice/nginx.service/cgroup.events";
const NGINX_RUNS: &str = "grep 'frozen 0' /sys/fs/cgroup/system.slice/nginx.service/cgroup.events && systemctl is-active nginx";
/// Neither process sees the end of the other.
pub(super) const KILL_BOTH: &str = "kill -STOP $guardian $agent; kill -KILL $guardian $agent";

/// The bound for an agent that is killed, from docs/safety.md.
pub(super) const KILLED: Duration = Duration::from_secs(10);
/// The bound for an agent that is stopped or deadlocked.
pub(super) const HUNG: Duration = Duration::from_secs(20);
/// The bound for a lost controller: the lease of the shipped controller.toml, and 2 s.
pub(super) const LEASE_LOST: Duration = Duration::from_secs(15 + 2);

/// The longest wait for a clean host, far beyond every bound.
pub(super) const GIVE_UP: Duration = Duration::from_secs(240);

/// One neighbour is cut off by its IPv4 address and delayed by the other, since two faults cannot have the same packets: both can expire in the
/// kernel. A volume is filled and a unit is paused: both need a process of ours to undo them. `cpu.burn` has a worker, and is last since it slows down
/// what comes after it.
const FAULTS: [&[&str]; 5] = [
    &BALLAST,
    &["network.partition", "to=db4"],
    &["network.delay", "delay=200ms", "protocol=icmp", "to=db6"],
    &["process.pause", "unit=nginx"],
    &["cpu.burn", "percent=20"],
];

/// The five faults, and what the host was like before.
pub(super) struct Held {
    before: Footprint,
    runs: Vec<String>,
}

impl Held {
    pub fn begin(site: &mut Site) -> Result<Self> {
        site.ready()?;
        let before = site.machine().footprint()?;
        let runs = FAULTS.iter().map(|fault| site.attack(fault, LASTS)).collect::<Result<_>>()?;
        site.expect_cut_off()?;
        site.machine().sh(ACTING)?.ok().context("not every fault acts")?;
        Ok(Self { before, runs })
    }

    /// The runs, each of one fault, in their order.
    pub fn runs(&self) -> &[String] {
        &self.runs
    }

    pub fn expect_footprint(&self, site: &Site) -> Result<()> {
        site.machine().expect_footprint(&self.before)
    }

    /// Expects the host to be as it was and proven clean, and each run to have ended by one of these causes.
    pub fn expect_ended(self, site: &mut Site, causes: &[&str]) -> Result<()> {
        site.ready()?;
        self.expect_footprint(site)?;
        site.machine().sh(NGINX_RUNS)?.ok().context("nginx does not run as it did before")?;
        self.runs.iter().try_for_each(|run| expect_undone(site, run, causes))
    }
}

/// Expects a run of one fault to have ended, and the fault to be undone by one of these causes.
pub(super) fn expect_undone(site: &Site, run: &str, causes: &[&str]) -> Result<()> {
    let run = site.finished(run)?;
    let injection = &run["injections"][0];
    let cause = injection["ended_by"].as_str().unwrap_or("nothing");
    ensure!(
        injection["state"] == "undone" && causes.contains(&cause),
        "{} is {} and was ended by {cause}, not by one of {causes:?}: {run:#}",
        injection["fault"],
        injection["state"]
    );
    ensure!(run["verdict"] != Value::Null, "the run has no verdict: {run:#}");
    Ok(())
}

/// Sets `agent` and `guardian` to their process ids.
pub(super) fn both_pids() -> String {
    let agent = main_pid("fracas-agent");
    format!(
        "agent=$({agent}); guardian=$(ps -o pid=,args= --ppid $agent | awk '/ guardian --agent /{{ print $1 }}'); test -n \"$guardian\""
    )
}

/// Prepares, acts, and waits until the host is clean, all in lines of `sh`; returns the time from the act on.
pub(super) fn clean_after(site: &Site, prepare: &str, act: &str) -> Result<Duration> {
    let line = format!("set -e; {prepare}; {BEGIN}; {act}; {}", until_clean());
    elapsed(&site.machine().sh_within(&line, GIVE_UP)?.ok()?)
}

/// Waits until the host is clean; then a line is `begin`, which the lines before have set, and the time.
pub(super) fn until_clean() -> String {
    until(CLEAN)
}

/// The same for any condition.
pub(super) fn until(condition: &str) -> String {
    format!("until {condition}; do sleep 0.1; done; {END}")
}

/// Acts by a line of `sh`, which may take until a limit, and expects the host to be clean as soon as that line has ended; returns how long it took.
pub(super) fn clean_when_done(site: &Site, figures: &Figures<'_>, act: &str, limit: Duration) -> Result<Duration> {
    let residue = "{ nft list tables; ls -a /var/tmp /sys/class/net /sys/fs/cgroup; \
                   cat /sys/fs/cgroup/system.slice/nginx.service/cgroup.events; ping -4 -c 1 -W 3 db; exit 1; } >&2";
    let line = format!("set -e; {BEGIN}; {act}; read end rest </proc/uptime; {{ {CLEAN}; }} || {residue}; echo $begin $end");
    elapsed(&site.machine().sh_within(&line, figures.patience(limit))?.ok()?)
}

/// Expects that no process on the machine runs our program, also one that has been removed.
pub(super) fn expect_no_process(site: &Site) -> Result<()> {
    let left = processes(site)?;
    ensure!(left.is_empty(), "processes were left: {left:?}");
    Ok(())
}

/// Expects that of our program at most the last guard runs, which waits until the controller has heard of every end.
pub(super) fn expect_no_agent(site: &Site) -> Result<()> {
    let mut left = processes(site)?;
    left.retain(|command| !command.ends_with(" rescue --watch "));
    ensure!(left.is_empty(), "processes were left: {left:?}");
    Ok(())
}

/// The command line of each process of our program.
fn processes(site: &Site) -> Result<Vec<String>> {
    let line = "for p in /proc/[0-9]*; do case $(readlink $p/exe) in /usr/bin/fracas-agent*) tr '\\0' ' ' <$p/cmdline; echo;; esac; done";
    let all = site.machine().sh(line)?.ok()?;
    Ok(all.lines().map(str::to_owned).collect())
}
