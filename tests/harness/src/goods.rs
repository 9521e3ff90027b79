//! Memory, processor time and disks of a host's own: limits on the first two, a small volume of the last; the machine's are never used up.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::command::Cmd;
use crate::host::Host;
use crate::packages::Packages;

/// What the kernel calls a group's limit and use, in both versions; and its caches in memory.stat.
const MEMORY: [(&str, &str, &str); 2] = [
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ("memory.max", "memory.current", ""),
];

/// In which a limit of processor time is kept, in microseconds: short, so that a host at its limit runs evenly.
const PERIOD: u64 = 20_000;

/// How full a volume is, in bytes, as `df` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub used: u64,
    pub available: u64,
}

impl Host {
    /// Everything on this host together can have so much memory from now on.
    pub fn limit_memory(&self, bytes: u64) -> Result<()> {
        let (folder, (limit, ..)) = self.memory_group()?;
        let file = folder.join(limit);
        std::fs::write(&file, bytes.to_string()).with_context(|| format!("write {}", file.display()))
    }

    /// What this host has in memory, without what is only cached from files.
    pub fn memory_used(&self) -> Result<u64> {
        let (folder, (_, usage, prefix)) = self.memory_group()?;
        let used: u64 = std::fs::read_to_string(folder.join(usage))?.trim().parse()?;
        let stat = std::fs::read_to_string(folder.join("memory.stat"))?;
        let cached = ["inactive_file ", "active_file "].map(|name| {
            let line = stat.lines().find_map(|line| line.strip_prefix(&format!("{prefix}{name}")));
            line.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
        });
        Ok(used.saturating_sub(cached.iter().sum()))
    }

    fn memory_group(&self) -> Result<(PathBuf, (&'static str, &'static str, &'static str))> {
        let folders = self.spec.groups.iter().map(|group| &group.folder);
        let mut found = folders.flat_map(|folder| MEMORY.map(|names| (folder.clone(), names)));
        let found = found.find(|(folder, (limit, ..))| folder.join(limit).exists());
        found.context("no control group of this host accounts memory")
    }

    /// Everything on this host together has so many processors' time from now on, 0.5 being half of one.
    pub fn limit_processors(&self, processors: f64) -> Result<()> {
        let quota = (processors * PERIOD as f64) as u64;
        let both = format!("{quota} {PERIOD}");
        // The period goes first: a quota is held against it.
        let first = [("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())];
        let folders = || self.spec.groups.iter().map(|group| &group.folder);
        let files: Vec<(PathBuf, String)> = match folders().find(|folder| folder.join("cpu.max").exists()) {
            Some(folder) => vec![(folder.join("cpu.max"), both)],
            None => {
                let folder = folders().find(|folder| folder.join(first[0].0).exists());
                let folder = folder.context("no control group of this host limits processor time")?;
                first.map(|(name, value)| (folder.join(name), value)).into()
            }
        };
        files
            .iter()
            .try_for_each(|(file, value)| std::fs::write(file, value).with_context(|| format!("write {}", file.display())))
    }

    /// Mounts a disk of this size at a folder, for this host alone; only what is written takes any real space, in memory.
    pub fn mount_disk(&self, at: &str, bytes: u64) -> Result<()> {
        Packages::ensure(&["e2fsprogs"])?;
        let image = format!("/run/tmp/disk{}.img", at.replace('/', "-"));
        // Nothing that fills itself in later: the disk must be as full as what is put on it.
        let options = "-q -m 0 -O ^has_journal,^resize_inode -E lazy_itable_init=1,nodiscard";
        let line = format!(
            "set -e; mkdir -p {at}; truncate -s {bytes} {image}; mkfs.ext4 {options} {image}; mount -o loop,noinit_itable {image} {at}"
        );
        self.exec(Cmd::sh(line))?
            .ok()
            .map(drop)
            .with_context(|| format!("mount a disk at {at}"))
    }

    /// As `df` on the host says it.
    pub fn space(&self, at: &str) -> Result<Space> {
        let said = self.exec(Cmd::new("df").args(["-B1", "--output=used,avail", at]))?.ok()?;
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        ensure!(numbers.len() == 2, "df said {said:?}");
        Ok(Space {
            used: numbers[0],
            available: numbers[1],
        })
    }
}
