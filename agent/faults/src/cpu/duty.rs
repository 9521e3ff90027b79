//! A thread that uses an exact share of one processor, paced on its own CPU time; it knows nothing of faults.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// No slice is longer, so that the load looks even to whoever samples it.
const SLICE_MS: u64 = 10;
/// Time owed after a noisy moment, or used too much, is made good up to this much; more would be a burst of its own.
const MOST_OWED: Duration = Duration::from_millis(250);
/// A share is kept in millionths, so that threads can be told another one without a lock.
const WHOLE: f64 = 1_000_000.0;

/// The share of a processor that a thread is to use, 0 to 1; may change while the thread runs.
pub(super) struct Share(AtomicU32);

impl Share {
    pub(super) fn new(share: f64) -> Self {
        Self(AtomicU32::new(millionths(share)))
    }

    pub(super) fn set(&self, share: f64) {
        self.0.store(millionths(share), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> f64 {
        f64::from(self.0.load(Ordering::Relaxed)) / WHOLE
    }
}

fn millionths(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * WHOLE).round() as u32
}

/// Uses `share` of processor `cpu` until `stop` says so, in slices of at most 10 ms.
///
/// What is asked for is CPU time, not running time: a slice that others held up is made good in the next ones, and so is what a slice
/// cost beyond its part, as where waking up is dear.
pub(super) fn burn(cpu: u32, share: &Share, stop: impl Fn() -> bool) -> std::io::Result<()> {
    pin(cpu)?;
    let mut wobble = u64::from(cpu) + 1;
    let mut balance = Balance::default();
    let (mut last_wall, mut last_used) = (Instant::now(), thread_time());
    while !stop() {
        let slice = slice_length(&mut wobble);
        let ends = last_wall + slice;
        let due = balance.earn(slice, share.get());
        if share.get() >= 1.0 || due > Duration::ZERO {
            spin_until(last_used + due, ends, share.get() >= 1.0);
        }
        if let Some(rest) = ends.checked_duration_since(Instant::now()) {
            std::thread::sleep(rest);
        }
        let (wall, used) = (Instant::now(), thread_time());
        balance.earn(wall.saturating_duration_since(ends), share.get());
        balance.spend(used.saturating_sub(last_used));
        (last_wall, last_used) = (wall, used);
    }
    Ok(())
}

/// Processor time that a thread has still to use, or has used too much already.
#[derive(Debug, Default)]
struct Balance {
    ns: i64,
}

impl Balance {
    /// Adds the thread's part of so much time; returns what it may use now.
    fn earn(&mut self, time: Duration, share: f64) -> Duration {
        self.ns = (self.ns + nanoseconds(time.mul_f64(share))).min(nanoseconds(MOST_OWED));
        Duration::from_nanos(u64::try_from(self.ns).unwrap_or(0))
    }

    fn spend(&mut self, used: Duration) {
        self.ns = (self.ns - nanoseconds(used)).max(-nanoseconds(MOST_OWED));
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Spins until the thread has used `used` in all, or until the slice is over.
fn spin_until(used: Duration, ends: Instant, whole: bool) {
    while Instant::now() < ends && (whole || thread_time() < used) {
        for _ in 0..500 {
            std::hint::spin_loop();
        }
    }
}

/// Between a half and a whole slice, never the same twice in a row: a fixed beat would hide from a sampling clock tick.
fn slice_length(state: &mut u64) -> Duration {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    let half = SLICE_MS * 500;
    Duration::from_micros(half + (*state >> 33) % half)
}

fn pin(cpu: u32) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu as usize);
    sched_setaffinity(None, &set)?;
    Ok(())
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a thread uses that burns for as long as it may, and pays so much for each time that it wakes up.
    fn used_share(share: f64, waking: Duration) -> f64 {
        let (mut balance, mut state, mut used, mut all) = (Balance::default(), 1, Duration::ZERO, Duration::ZERO);
        for _ in 0..10_000 {
            let slice = slice_length(&mut state);
            let spent = balance.earn(slice, share) + waking;
            balance.spend(spent);
            (used, all) = (used + spent, all + slice);
        }
        used.as_secs_f64() / all.as_secs_f64()
    }

    #[test]
    fn what_waking_up_costs_is_part_of_the_share() {
        for waking in [0, 300, 1_000] {
            let used = used_share(0.2, Duration::from_micros(waking));
            assert!((used - 0.2).abs() < 0.005, "{used} with {waking} us for each wake-up");
        }
        let dear = used_share(0.2, Duration::from_millis(3));
        assert!(dear < 0.45, "nothing is burned where waking up alone takes more: {dear}");
    }

    #[test]
    fn slices_vary_and_never_exceed_the_limit() {
        let mut state = 1;
        let slices: Vec<Duration> = (0..100).map(|_| slice_length(&mut state)).collect();
        assert!(slices.iter().all(|s| (5..=SLICE_MS).contains(&(s.as_millis() as u64))));
        assert!(slices.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_share_is_kept_between_nothing_and_the_whole() {
        assert_eq!(Share::new(1.5).get(), 1.0);
        assert_eq!(Share::new(-1.0).get(), 0.0);
        assert!((Share::new(0.6).get() - 0.6).abs() < 1e-6);
    }
}
