//! Memory: how much there is, what is left of it, and what a process has of it; it takes none.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::ViewError;
use crate::hierarchy::{GroupId, Hierarchies, Hierarchy, Version};
use crate::text;

/// How many groups above ours are asked for their limits.
const HIGHEST: usize = 32;

/// The memory that a new process of ours could use: the host's, or a quota's where one is set above our groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub total: u64,
    /// What can be used before the kernel must take it from others.
    pub available: u64,
    pub swap_total: u64,
    /// `total` is a quota's.
    pub is_quota: bool,
}

impl Memory {
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.available)
    }

    /// `host` or `quota`.
    pub fn whose(&self) -> &'static str {
        if self.is_quota { "quota" } else { "host" }
    }
}

/// What one process has, in bytes; shared pages count in proportion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMemory {
    pub pss: u64,
    pub swapped: u64,
    pub locked: u64,
}

pub(crate) fn memory(hierarchies: &Hierarchies) -> Result<Memory, ViewError> {
    let listed = text::read("/proc/meminfo")?;
    let field = |name: &str| {
        let missing = || ViewError::new(format!("{name} in /proc/meminfo"), std::io::ErrorKind::NotFound.into());
        kilobytes(&listed, name).ok_or_else(missing)
    };
    let mut memory = Memory {
        total: field("MemTotal:")?,
        available: field("MemAvailable:")?,
        swap_total: field("SwapTotal:")?,
        is_quota: false,
    };
    for hierarchy in hierarchies.used() {
        for folder in hierarchy.root.ancestors().take(HIGHEST) {
            if !folder.join("cgroup.procs").exists() {
                break;
            }
            if let Some(quota) = quota(hierarchy, folder)? {
                narrow(&mut memory, quota);
            }
        }
    }
    Ok(memory)
}

struct Quota {
    limit: u64,
    /// Without what is only cached from files.
    used: u64,
}

fn narrow(memory: &mut Memory, quota: Quota) {
    if quota.limit < memory.total {
        (memory.total, memory.is_quota) = (quota.limit, true);
    }
    memory.available = memory.available.min(quota.limit.saturating_sub(quota.used));
}

/// The limit of one group, if it has one.
fn quota(hierarchy: &Hierarchy, folder: &Path) -> Result<Option<Quota>, ViewError> {
    let (limit, usage, prefix) = match hierarchy.version {
        Version::V2 => ("memory.max", "memory.current", ""),
        Version::V1 if hierarchy.has("memory") => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        Version::V1 => return Ok(None),
    };
    let number = |name: &str| -> Result<Option<u64>, ViewError> {
        let read = text::read_if_there(folder.join(name))?;
        Ok(read.and_then(|text| text.trim().parse().ok()))
    };
    let (Some(limit), Some(usage)) = (number(limit)?, number(usage)?) else {
        return Ok(None);
    };
    let stat = text::read_if_there(folder.join("memory.stat"))?.unwrap_or_default();
    let cached: u64 = ["inactive_file ", "active_file "]
        .iter()
        .filter_map(|name| number_after(&stat, &format!("{prefix}{name}")))
        .sum();
    Ok(Some(Quota {
        limit,
        used: usage.saturating_sub(cached),
    }))
}

/// `None` when there is no such process, or it is a zombie.
pub(crate) fn of_process(pid: u32) -> Result<Option<ProcessMemory>, ViewError> {
    let rollup = match text::read_if_there(format!("/proc/{pid}/smaps_rollup")) {
        // A process that has given its memory back already.
        Ok(None) => return Ok(None),
        Ok(Some(text)) => text,
        Err(error) => return Err(error),
    };
    let field = |name: &str| kilobytes(&rollup, name);
    Ok(field("Pss:").map(|pss| ProcessMemory {
        pss,
        swapped: field("SwapPss:").unwrap_or(0),
        locked: field("Locked:").unwrap_or(0),
    }))
}

/// How often the kernel has killed for want of memory: in this group where that is counted, else on the whole host.
pub(crate) fn oom_kills(hierarchies: &Hierarchies, group: &GroupId) -> Result<u64, ViewError> {
    for hierarchy in hierarchies.used() {
        for name in ["memory.events", "memory.oom_control"] {
            let read = text::read_if_there(hierarchy.folder(group).join(name))?;
            if let Some(kills) = read.and_then(|text| number_after(&text, "oom_kill ")) {
                return Ok(kills);
            }
        }
    }
    Ok(number_after(&text::read("/proc/vmstat")?, "oom_kill ").unwrap_or(0))
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_quota_counts() {
        let mut memory = Memory {
            total: 1_000,
            available: 900,
            ..Memory::default()
        };
        narrow(&mut memory, Quota { limit: u64::MAX, used: 5 });
        assert_eq!((memory.total, memory.available, memory.whose()), (1_000, 900, "host"));
        narrow(&mut memory, Quota { limit: 500, used: 100 });
        narrow(&mut memory, Quota { limit: 800, used: 600 });
        assert_eq!((memory.total, memory.available, memory.whose()), (500, 200, "quota"));
        assert_eq!(memory.used(), 300);
    }

    #[test]
    fn fields_are_found_by_their_whole_names() {
        let rollup = "0-1 ---p 0 [rollup]\nRss: 9 kB\nPss:                 100 kB\nPss_Anon: 7 kB\nSwapPss: 3 kB\n";
        assert_eq!(
            (kilobytes(rollup, "Pss:"), kilobytes(rollup, "SwapPss:")),
            (Some(102_400), Some(3_072))
        );
        assert_eq!(number_after("oom 3\noom_kill 2\noom_group_kill 1\n", "oom_kill "), Some(2));
    }

    #[test]
    fn this_machine_has_memory_and_we_use_some() {
        let memory = memory(&Hierarchies::default()).unwrap();
        assert!(memory.available > 0 && memory.available < memory.total, "{memory:?}");
        let own = of_process(std::process::id()).unwrap().unwrap();
        assert!(own.pss > 100_000 && own.pss < memory.total, "{own:?}");
        assert_eq!(of_process(u32::MAX).unwrap(), None);
    }
}
