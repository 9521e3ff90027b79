//! Volumes and files on them: where one is mounted, how full it is, what a file is; it opens none.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use rustix::fs::{StatVfsMountFlags, statvfs};
use serde::{Deserialize, Serialize};

use crate::error::ViewError;
use crate::mounts::{mount_of, mounts};
use crate::named::Named;
use crate::text;

/// What `statfs` calls btrfs, zfs, bcachefs and nilfs2: they count space as they write it.
const LAZY: [i128; 4] = [0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e, 0x3434];
/// How long that may take.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);
static SETTLING: AtomicBool = AtomicBool::new(false);
/// File systems that are memory.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// A mounted file system, in bytes as `df` counts them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The path that was asked for, with every link followed.
    pub path: PathBuf,
    pub is_folder: bool,
    /// As `stat` of a file there tells it.
    pub device: u64,
    /// The file system's own number, which many keep when they are mounted from another device; none where it has none.
    #[serde(default)]
    pub id: Option<u64>,
    pub mount_point: PathBuf,
    /// Such as `ext4`.
    pub kind: String,
    pub read_only: bool,
    /// Its blocks come out of a pool that others share.
    pub thin: bool,
    pub used: u64,
    /// What everybody may still use; what only root may is left out.
    pub available: u64,
}

impl Volume {
    pub fn total(&self) -> u64 {
        self.used + self.available
    }

    /// What is in it takes memory, and ends with its mount.
    pub fn is_memory(&self) -> bool {
        IN_MEMORY.contains(&self.kind.as_str())
    }

    /// As `df` says it, not rounded.
    pub fn percent_used(&self) -> f64 {
        self.used as f64 / (self.total() as f64).max(1.0) * 100.0
    }
}

/// One file, not followed when it is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSeen {
    pub device: u64,
    pub inode: u64,
    pub regular: bool,
    pub directory: bool,
    pub size: u64,
    /// What it takes of its volume.
    pub allocated: u64,
}

/// The volume on which something lies; `None` when there is no such path.
pub(crate) fn volume(path: &Path) -> Result<Option<Volume>, ViewError> {
    let failed = |e: std::io::Error| ViewError::new(format!("the volume of {}", path.display()), e);
    let Some(named) = Named::find(path)? else { return Ok(None) };
    let whole = named.path.clone();
    let (found, space) = match named.look(|whole| Ok((fs::metadata(whole)?, statvfs(whole)?)))? {
        Ok(found) => found,
        Err(e) if text::is_absent(&e) => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mounts = mounts()?;
    let mount = mount_of(&mounts, &whole);
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    let device = found.dev();
    Ok(Some(Volume {
        is_folder: found.is_dir(),
        device,
        id: Some(space.f_fsid).filter(|id| *id != 0),
        mount_point: mount.map_or_else(|| PathBuf::from("/"), |mount| mount.point.clone()),
        kind: mount.map(|mount| mount.kind.clone()).unwrap_or_default(),
        read_only: space.f_flag.contains(StatVfsMountFlags::RDONLY),
        thin: is_thin(device),
        used: bytes(space.f_blocks.saturating_sub(space.f_bfree)),
        available: bytes(space.f_bavail),
        path: whole,
    }))
}

/// Lets a file system that counts its space only as it writes do that now, so that what it says next is so. True when it has, or
/// counts at once anyhow; a disk that takes longer is not waited for.
pub fn settle(path: &Path) -> bool {
    match is_lazy(path) {
        Ok(true) => {}
        Ok(false) => return true,
        Err(_) => return false,
    }
    // One at a time: those that hang must not become many.
    if SETTLING.swap(true, Ordering::AcqRel) {
        return false;
    }
    let (done, wait) = sync_channel(1);
    let path = path.to_owned();
    let sync = move || {
        let synced = fs::File::open(&path).is_ok_and(|folder| rustix::fs::syncfs(&folder).is_ok());
        SETTLING.store(false, Ordering::Release);
        let _ = done.send(synced);
    };
    match std::thread::Builder::new()
        .name("settle".to_owned())
        .stack_size(64 * 1024)
        .spawn(sync)
    {
        Ok(_) => wait.recv_timeout(SETTLE_WITHIN).unwrap_or(false),
        Err(_) => {
            SETTLING.store(false, Ordering::Release);
            false
        }
    }
}

/// What cannot be asked counts at once; what does not answer is unknown.
fn is_lazy(path: &Path) -> Result<bool, ViewError> {
    let Some(named) = Named::find(path)? else { return Ok(false) };
    let found = named.look(|path| Ok(rustix::fs::statfs(path)?.f_type))?;
    Ok(found.is_ok_and(|kind| LAZY.contains(&i128::from(kind))))
}

/// By the names that LVM and VDO give to their pools.
fn is_thin(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let block = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let uuid = |folder: &Path| text::read_if_there(folder.join("dm/uuid")).ok().flatten().unwrap_or_default();
    let below = fs::read_dir(block.join("slaves")).into_iter().flatten().flatten();
    uuid(&block).starts_with("VDO-") || below.map(|entry| uuid(&entry.path())).any(|uuid| uuid.trim().ends_with("-tpool"))
}

pub(crate) fn file(path: &Path) -> Result<Option<FileSeen>, ViewError> {
    let Some(named) = Named::find_name(path)? else { return Ok(None) };
    match named.look(|path| fs::symlink_metadata(path))? {
        Ok(found) => Ok(Some(seen(&found))),
        Err(e) if text::is_absent(&e) => Ok(None),
        Err(e) => Err(ViewError::new(path.display().to_string(), e)),
    }
}

pub(crate) fn seen(found: &fs::Metadata) -> FileSeen {
    FileSeen {
        device: found.dev(),
        inode: found.ino(),
        regular: found.is_file(),
        directory: found.is_dir(),
        size: found.len(),
        allocated: found.blocks() * 512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::Mount;

    #[test]
    fn the_deepest_and_last_mount_counts() {
        let mount = |point: &str, kind: &str| Mount {
            major: 8,
            minor: 1,
            point: PathBuf::from(point),
            kind: kind.to_owned(),
            source: String::new(),
            options: String::new(),
        };
        let mounts = [
            mount("/", "ext4"),
            mount("/srv", "xfs"),
            mount("/srv", "tmpfs"),
            mount("/srv/deep", "btrfs"),
        ];
        for (path, kind) in [("/etc", "ext4"), ("/srv/x", "tmpfs"), ("/srvx", "ext4"), ("/srv/deep/x", "btrfs")] {
            assert_eq!(mount_of(&mounts, Path::new(path)).unwrap().kind, kind, "{path}");
        }
    }

    #[test]
    fn proc_is_a_volume_and_what_is_not_there_is_none() {
        let proc = volume(Path::new("/proc/self")).unwrap().unwrap();
        assert_eq!((proc.mount_point.as_path(), proc.kind.as_str()), (Path::new("/proc"), "proc"));
        assert_eq!(volume(Path::new("/no/such/folder")).unwrap(), None);
        assert_eq!(file(Path::new("/no/such/folder")).unwrap(), None);
        assert!(file(Path::new("/proc")).unwrap().unwrap().directory);
    }
}
