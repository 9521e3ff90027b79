//! The closed loop of `total`: how much to add so that the processors together are as busy as asked; it reads, and tells threads.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_view::{CpuTicks, HostView};

use super::duty::Share;

/// How often the loop looks: long enough for the kernel's ticks of 10 ms to mean something.
const EVERY: Duration = Duration::from_millis(400);
/// How much of an error is made good at once; a whole step would swing.
const GAIN: f64 = 0.6;

/// Busy share of each of these processors between two looks, 0 to 1; none for a processor that saw no tick.
pub(super) fn busy_shares(before: &[CpuTicks], now: &[CpuTicks], cpus: &[u32]) -> Vec<Option<f64>> {
    let old: BTreeMap<u32, &CpuTicks> = before.iter().map(|t| (t.cpu, t)).collect();
    let new: BTreeMap<u32, &CpuTicks> = now.iter().map(|t| (t.cpu, t)).collect();
    cpus.iter()
        .map(|cpu| {
            let (a, b) = (old.get(cpu)?, new.get(cpu)?);
            let total = b.total.saturating_sub(a.total);
            (total > 0).then(|| b.busy.saturating_sub(a.busy) as f64 / total as f64)
        })
        .collect()
}

/// The mean of those that are known.
pub(super) fn mean(shares: &[Option<f64>]) -> Option<f64> {
    let known: Vec<f64> = shares.iter().copied().flatten().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// Steers the threads' shares until `stop`.
pub(super) fn steer(view: &dyn HostView, cpus: &[u32], target: f64, shares: &[Share], stop: impl Fn() -> bool) {
    let mut before = view.cpu_ticks().unwrap_or_default();
    let mut adding = 0.0;
    while !stop() {
        std::thread::sleep(EVERY);
        let Ok(now) = view.cpu_ticks() else { continue };
        let busy = busy_shares(&before, &now, cpus);
        before = now;
        let Some(mean) = mean(&busy) else { continue };
        adding = f64::clamp(adding + GAIN * (target - mean), 0.0, 1.0);
        for (share, wanted) in shares.iter().zip(spread(adding, &busy, shares)) {
            share.set(wanted);
        }
    }
}

/// Gives each processor its part of what is to be added, in proportion to what others leave free there.
fn spread(adding: f64, busy: &[Option<f64>], shares: &[Share]) -> Vec<f64> {
    let free: Vec<f64> = busy
        .iter()
        .zip(shares)
        .map(|(busy, own)| (1.0 - (busy.unwrap_or(0.0) - own.get()).max(0.0)).clamp(0.05, 1.0))
        .collect();
    let all: f64 = free.iter().sum();
    free.iter().map(|f| (adding * free.len() as f64 * f / all).min(1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(cpu: u32, busy: u64, total: u64) -> CpuTicks {
        CpuTicks { cpu, busy, total }
    }

    #[test]
    fn shares_are_differences_and_the_unknown_is_left_out() {
        let before = [ticks(0, 100, 1000), ticks(1, 0, 1000)];
        let now = [ticks(0, 150, 1100), ticks(1, 0, 1000)];
        let shares = busy_shares(&before, &now, &[0, 1, 2]);
        assert_eq!(shares, vec![Some(0.5), None, None]);
        assert_eq!(mean(&shares), Some(0.5));
        assert_eq!(mean(&[None]), None);
    }

    #[test]
    fn what_is_added_goes_where_there_is_room_and_sums_up() {
        let shares = [Share::new(0.0), Share::new(0.0)];
        let wanted = spread(0.1, &[Some(1.0), Some(0.0)], &shares);
        assert!(wanted[0] < 0.02 && wanted[1] > 0.18, "{wanted:?}");
        assert!((wanted.iter().sum::<f64>() - 0.2).abs() < 1e-9);
    }
}
