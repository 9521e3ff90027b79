//! The files of a package, staged in memory and written with fixed modes, times and order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

/// Files by the absolute path at which they are installed.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<String, Entry>);

#[derive(Debug)]
pub struct Entry {
    bytes: Vec<u8>,
    pub mode: u32,
    pub config: bool,
}

impl Tree {
    pub fn add(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Result<()> {
        self.add_with(path.into(), bytes.into(), 0o644, false)
    }

    pub fn add_with(&mut self, path: String, bytes: Vec<u8>, mode: u32, config: bool) -> Result<()> {
        ensure!(
            path.starts_with('/') && !path.contains(".."),
            "{path} is not an absolute path of a file"
        );
        let before = self.0.insert(path.clone(), Entry { bytes, mode, config });
        ensure!(before.is_none(), "{path} is in the package twice");
        Ok(())
    }

    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// What the files take, in KiB.
    pub fn kibibytes(&self) -> u64 {
        self.0.values().map(|entry| (entry.bytes.len() as u64).div_ceil(1024)).sum()
    }

    /// Writes all of it below `root`, which is replaced.
    pub fn write(&self, root: &Path, time: SystemTime) -> Result<()> {
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("remove {}", root.display()))?;
        }
        fs::create_dir_all(root)?;
        let mut folders = BTreeSet::from([root.to_owned()]);
        for (path, entry) in &self.0 {
            let place = below(root, path);
            for folder in place.ancestors().skip(1).take_while(|folder| *folder != root) {
                folders.insert(folder.to_owned());
            }
            fs::create_dir_all(place.parent().unwrap_or(root))?;
            fs::write(&place, &entry.bytes).with_context(|| format!("write {}", place.display()))?;
            set(&place, entry.mode, time)?;
        }
        // Folders after what is in them, since writing that changes their times.
        folders.iter().rev().try_for_each(|folder| set(folder, 0o755, time))
    }
}

/// Mode and time of a file or folder.
pub fn set(path: &Path, mode: u32, time: SystemTime) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    let times = FileTimes::new().set_accessed(time).set_modified(time);
    File::open(path)?.set_times(times)?;
    Ok(())
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}
