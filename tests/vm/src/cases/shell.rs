//! Lines of `sh` that several cases run on a machine, and the times that those lines print.

use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Sets `begin` to the time since boot.
pub(super) const BEGIN: &str = "read begin rest </proc/uptime";
/// Prints `begin` and the time since boot, which `elapsed` reads.
pub(super) const END: &str = "read end rest </proc/uptime; echo $begin $end";

/// Prints the process id of a unit's main process, and 0 where the unit does not run.
pub(super) fn main_pid(unit: &str) -> String {
    format!("systemctl show --property MainPID --value {unit}")
}

/// Sends a signal to the controller; while it is stopped it ends no run and renews no lease.
pub(super) fn signal_controller(signal: &str) -> String {
    format!("kill -{signal} $({})", main_pid("fracas-controller"))
}

/// Reads the last line: two moments in seconds.
pub(super) fn elapsed(printed: &str) -> Result<Duration> {
    let last = printed.lines().next_back().unwrap_or_default();
    let times: Vec<f64> = last.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [begin, end] = times[..] else {
        bail!("expected two times, got {printed:?}");
    };
    Duration::try_from_secs_f64(end - begin).context("the second time is before the first")
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
