//! The time from a failure until the host is clean, for the cases that lose the agent.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::site::Site;

/// Longer than any case takes.
pub(super) const LASTS: &str = "5m";
/// The neighbour answers, and nothing that carries our name is in the network or on the volume.
pub(super) const CLEAN: &str =
    "! nft list tables | grep -q fracas && ! ls /var/tmp/.fracas-* >/dev/null 2>&1 && ping -c 1 -W 3 db >/dev/null 2>&1";
/// A line of `sh` that prints the process id of the agent.
pub(super) const AGENT_PID: &str = "systemctl show --property MainPID --value fracas-agent";

/// The bound for an agent that is killed, from docs/safety.md.
pub(super) const KILLED: Duration = Duration::from_secs(10);

const GIVE_UP: Duration = Duration::from_secs(240);

/// Prepares, acts, and waits until the host is clean, all in lines of `sh`; returns the time from the act on.
pub(super) fn clean_after(site: &Site, prepare: &str, act: &str) -> Result<Duration> {
    let line = format!("set -e; {prepare}; read begin rest </proc/uptime; {act}; {}", until_clean());
    elapsed(&site.machine().sh_within(&line, GIVE_UP)?.ok()?)
}

/// Waits until the host is clean; then a line is `begin`, which the lines before have set, and the time.
pub(super) fn until_clean() -> String {
    format!("until {CLEAN}; do sleep 0.1; done; read end rest </proc/uptime; echo $begin $end")
}

/// Reads the last line: two moments in seconds.
pub(super) fn elapsed(printed: &str) -> Result<Duration> {
    let last = printed.lines().next_back().unwrap_or_default();
    let times: Vec<f64> = last.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [begin, end] = times[..] else {
        return Err(anyhow::anyhow!("expected two times, got {printed:?}"));
    };
    Duration::try_from_secs_f64(end - begin).context("the second time is before the first")
}

/// Expects that no process on the machine runs our program, also one that has been removed.
pub(super) fn expect_no_process(site: &Site) -> Result<()> {
    let line = "for p in /proc/[0-9]*; do case $(readlink $p/exe) in /usr/bin/fracas-agent*) echo \"${p#/proc/} $(tr '\\0' ' ' <$p/cmdline)\";; esac; done";
    let left = site.machine().sh(line)?.ok()?;
    ensure!(left.is_empty(), "processes were left: {left}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_line_is_read() {
        assert_eq!(elapsed("Removed /x.\n12.50 14.00\n").unwrap(), Duration::from_millis(1_500));
        assert!(elapsed("12.5 14.0\nbut then\n").is_err());
        assert!(elapsed("14.0 12.5\n").is_err());
        assert!(elapsed("").is_err());
    }
}
