//! What a worker's body may do: to its own threads, memory and ballast file, and below this folder to the packets that are handed to it.
//! It changes no rule and touches nothing of anybody else.

mod filler;
mod memory_block;
pub mod packets;
mod pattern;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

pub use agent_view::boot_ms;
pub use filler::{Filler, open_ballast};
pub use memory_block::MemoryBlock;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The scheduler wakes late by about this much; the rest of a precise sleep is spent awake.
const WAKES_LATE: Duration = Duration::from_micros(80);

/// From here on the calling thread runs on this processor only.
pub fn pin_to(cpu: u32) -> io::Result<()> {
    let cpu = usize::try_from(cpu).ok().filter(|cpu| *cpu < CpuSet::MAX_CPU);
    let cpu = cpu.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no kernel has a processor of this number"))?;
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None::<Pid>, &set)?)
}

/// Processor time that the calling thread has used.
pub fn thread_cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.try_into().unwrap_or(0), used.tv_nsec.try_into().unwrap_or(0))
}

/// Sleeps until `wake`, and is awake within microseconds of it unless the processor is busy.
pub fn sleep_until(wake: Instant) {
    if let Some(rest) = wake
        .checked_duration_since(Instant::now())
        .and_then(|left| left.checked_sub(WAKES_LATE))
    {
        std::thread::sleep(rest);
    }
    while Instant::now() < wake {
        std::hint::spin_loop();
    }
}

pub(crate) fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the call, and the pointer and size describe one c_int that outlives it.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_stays_and_its_clock_counts_only_its_work() {
        let cpu = rustix::thread::sched_getcpu();
        std::thread::spawn(move || {
            pin_to(u32::try_from(cpu).unwrap()).unwrap();
            let before = thread_cpu_time();
            sleep_until(Instant::now() + Duration::from_millis(20));
            assert_eq!(rustix::thread::sched_getcpu(), cpu);
            assert!(thread_cpu_time() - before < Duration::from_millis(20));
        })
        .join()
        .unwrap();
        assert!(pin_to(u32::MAX).is_err());
    }
}
