//! Time since boot, which no change of the wall clock moves.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since boot, time asleep included.
pub fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}
