//! Processors: how busy each has been, and which we may use; it changes no affinity.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity};
use serde::{Deserialize, Serialize};

use crate::error::ViewError;
use crate::text;

/// Jiffies of one processor since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTicks {
    pub cpu: u32,
    pub busy: u64,
    pub total: u64,
}

pub(crate) fn ticks() -> Result<Vec<CpuTicks>, ViewError> {
    Ok(text::read("/proc/stat")?.lines().filter_map(parse).collect())
}

pub(crate) fn usable() -> Result<Vec<u32>, ViewError> {
    let set = sched_getaffinity(None::<Pid>).map_err(|e| ViewError::new("the agent's processors", e.into()))?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .filter_map(|cpu| u32::try_from(cpu).ok())
        .collect())
}

/// `cpu3 user nice system idle iowait irq softirq steal ...`; what guests used is in `user` already.
fn parse(line: &str) -> Option<CpuTicks> {
    let mut fields = line.strip_prefix("cpu")?.split(' ');
    let cpu = fields.next()?.parse().ok()?;
    let ticks: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4).copied().unwrap_or(0);
    Some(CpuTicks {
        cpu,
        busy: total - idle,
        total,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let expected = CpuTicks {
            cpu: 3,
            busy: 1 + 2 + 3 + 6 + 7 + 8,
            total: 36,
        };
        assert_eq!(parse("cpu3 1 2 3 4 5 6 7 8 9 10"), Some(expected));
        assert_eq!(parse("cpu  1 2 3 4 5 6 7 8 9 10"), None);
        assert_eq!(parse("intr 5"), None);
    }

    #[test]
    fn this_machine_has_processors_and_we_may_use_one() {
        let known: Vec<u32> = ticks().unwrap().iter().map(|t| t.cpu).collect();
        let usable = usable().unwrap();
        assert!(
            !usable.is_empty() && usable.iter().all(|cpu| known.contains(cpu)),
            "{usable:?} of {known:?}"
        );
    }
}
