//! Memory and disk space as a host's neighbours would see them go: by the group's account, by `df` and by `du`; it takes none itself.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tests_harness::goods::Space;
use tests_harness::{Host, wait};

use crate::site::{MEMORY, Site};

const MEBI: u64 = 1 << 20;
/// More than a worker has before it takes anything.
const SEEN: u64 = 48 * MEBI;
/// Long enough for the slowest example to have what it asks for.
const TAKEN: Duration = Duration::from_secs(6);
const GIVEN_BACK: Duration = Duration::from_secs(3);

/// Memory of a host under a limit.
pub struct Memory<'a> {
    site: &'a Site,
    host: &'a Host,
    before: u64,
    amount: u64,
    total: bool,
}

impl<'a> Memory<'a> {
    pub fn before(site: &'a Site, host: &'a Host, params: &Value) -> Result<Self> {
        Ok(Self {
            site,
            host,
            before: host.memory_used()?,
            amount: size(&params["amount"], MEMORY)?,
            total: params["mode"] == "total",
        })
    }

    /// What the workers have, shared pages in proportion.
    pub fn taken(&self) -> Result<u64> {
        let mut taken = 0;
        for pid in self.site.workers(self.host.name())? {
            // One that is ending has none any more.
            let rollup = self.host.read(&format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
            taken += line
                .and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
                .unwrap_or(0)
                * 1_024;
        }
        Ok(taken)
    }

    pub fn sees(&self) -> Result<bool> {
        Ok(self.taken()? > SEEN)
    }

    /// Within one percent, by the process and by the account of the whole host's group.
    pub fn is_as_asked(&self) -> Result<()> {
        let mut seen = String::new();
        let asked = wait::until("memory is taken as asked", TAKEN, || {
            let (own, used) = (self.taken()?, self.host.memory_used()?);
            seen = format!("{} MiB by the worker, {} MiB in all", own / MEBI, used / MEBI);
            // Others on the host start and end; the account is looser than the process.
            let grown = used.saturating_sub(self.before) + 24 * MEBI;
            Ok(match self.total {
                true => used.abs_diff(self.amount) <= MEMORY / 50,
                false => own.abs_diff(self.amount) <= self.amount / 100 && grown >= self.amount,
            })
        });
        asked.map(drop).with_context(|| format!("{} MiB asked, {seen}", self.amount / MEBI))
    }
}

/// A volume of a host, and our file on it.
pub struct Disk<'a> {
    host: &'a Host,
    folder: String,
    before: Space,
    params: Value,
}

impl<'a> Disk<'a> {
    pub fn before(host: &'a Host, params: &Value) -> Result<Self> {
        let folder = params["path"].as_str().context("a disk's fault names a path")?.to_owned();
        Ok(Self {
            host,
            before: host.space(&folder)?,
            folder,
            params: params.clone(),
        })
    }

    /// Our files in the folder, from outside of the host.
    pub fn ballast(&self) -> Result<Vec<PathBuf>> {
        let folder = self.host.path(&self.folder);
        let entries = std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(paths.filter(|path| path.to_string_lossy().contains("/.fracas-")).collect())
    }

    pub fn sees(&self) -> Result<bool> {
        Ok(!self.ballast()?.is_empty())
    }

    /// Within 1 MiB, by `df` of the volume and by the blocks of the file.
    pub fn is_as_asked(&self) -> Result<()> {
        let mut seen = String::new();
        let asked = wait::until("the disk is as full as asked", TAKEN, || {
            let now = self.host.space(&self.folder)?;
            let blocks: u64 = self
                .ballast()?
                .iter()
                .filter_map(|path| path.metadata().ok())
                .map(|file| file.blocks() * 512)
                .sum();
            seen = format!("{now:?}, the file has {blocks}");
            let target = self.target()?;
            let added = now.used.saturating_sub(self.before.used);
            Ok(now.used.abs_diff(target) <= MEBI && blocks.abs_diff(added) <= MEBI)
        });
        asked
            .map(drop)
            .with_context(|| format!("{} asked, before {:?}, {seen}", self.params, self.before))
    }

    /// Bytes used in the end.
    fn target(&self) -> Result<u64> {
        let whole = self.before.used + self.before.available;
        if let Some(percent) = self.params["used"].as_f64() {
            return Ok((whole as f64 * percent / 100.0) as u64);
        }
        match self.params["free"].is_null() {
            true => Ok(self.before.used + size(&self.params["amount"], whole)?),
            false => Ok(whole - size(&self.params["free"], whole)?),
        }
    }

    pub fn is_back(&self) -> Result<()> {
        let back = || Ok(self.host.space(&self.folder)?.available.abs_diff(self.before.available) < 64 * 1_024);
        wait::until("the space is free again", GIVEN_BACK, back).map(drop)
    }
}

/// `64MiB`, `2GiB` or `25%`, as examples are written.
fn size(amount: &Value, whole: u64) -> Result<u64> {
    let text = amount.as_str().context("an amount is a text")?;
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = digits.parse().with_context(|| format!("read {text}"))?;
    match unit {
        "%" => Ok(whole / 100 * number),
        "MiB" => Ok(number * MEBI),
        "GiB" => Ok(number << 30),
        _ => anyhow::bail!("{text} is in a unit that the witness does not read"),
    }
}
