//! Processor time of a process's threads, with the processor that each ran on last; nothing is judged here.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::error::ViewError;
use crate::text;

/// Threads that are looked at: more than any worker of ours has.
const MOST_THREADS: usize = 8_192;
/// Of the fields behind the name in a thread's stat: the processor that it ran on last (field 39 of proc(5)).
const LAST_PROCESSOR: usize = 36;

/// One thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadTime {
    /// The processor that it ran on last; that of a pinned thread is always the same.
    pub cpu: u32,
    pub tid: u32,
    pub usec: u64,
}

/// Empty where the kernel tells nothing of threads, and where there is no such process.
pub(crate) fn thread_times(pid: u32) -> Result<Vec<ThreadTime>, ViewError> {
    let folder = format!("/proc/{pid}/task");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if text::is_absent(&e) => return Ok(Vec::new()),
        Err(e) => return Err(ViewError::new(folder, e)),
    };
    let tids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut times = Vec::new();
    for tid in tids.take(MOST_THREADS) {
        let of = |file: &str| text::read_if_there(format!("{folder}/{tid}/{file}"));
        let (Some(stat), Some(scheduled)) = (of("stat")?, of("schedstat")?) else {
            continue;
        };
        let behind_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let cpu = behind_name.split(' ').nth(LAST_PROCESSOR).and_then(|cpu| cpu.parse().ok());
        let ns = scheduled.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
        times.extend(cpu.zip(ns).map(|(cpu, ns)| ThreadTime {
            cpu,
            tid,
            usec: ns / 1_000,
        }));
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_busy_thread_is_seen_with_its_time() {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        let own = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        let times = thread_times(std::process::id()).unwrap();
        let Some(mine) = times.iter().find(|thread| thread.tid == own) else {
            return tests_notes::skip("this kernel tells nothing of the time of threads (CONFIG_SCHED_INFO)");
        };
        assert!(mine.usec > 1_000, "{mine:?}");
        assert!(thread_times(u32::MAX).unwrap().is_empty());
    }
}
