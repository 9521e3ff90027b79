//! Memory, volumes and ballast files of a fake host.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use agent_view::{FileFound, FileSeen, Memory, ProcessMemory, Volume};

use crate::ballast::{FileHandle, Made};

/// What a fake host has that faults use up.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    pub(crate) memory: Memory,
    pub(crate) workers: BTreeMap<u32, ProcessMemory>,
    pub(crate) oom_kills: u64,
    pub(super) volumes: Vec<Volume>,
    /// Mount points at which only the agent is kept from writing.
    pub(super) written_by_the_host: BTreeSet<PathBuf>,
    pub(crate) files: BTreeMap<PathBuf, FileSeen>,
    next_inode: u64,
    pub(super) allocates: bool,
    pub(super) handles: bool,
}

impl Default for Resources {
    /// 8 GiB of memory, 6 of them free; 40 GiB on /, 10 GiB on /var, both half full, and a tmpfs at /run.
    fn default() -> Self {
        let volume = |device, point: &str, kind: &str, gib: u64| Volume {
            path: PathBuf::from(point),
            is_folder: true,
            device,
            id: Some(device << 32),
            mount_point: PathBuf::from(point),
            kind: kind.to_owned(),
            read_only: false,
            thin: false,
            used: gib << 29,
            available: gib << 29,
        };
        Self {
            memory: Memory {
                total: 8 << 30,
                available: 6 << 30,
                ..Memory::default()
            },
            workers: BTreeMap::new(),
            oom_kills: 0,
            volumes: vec![
                volume(0x801, "/", "ext4", 40),
                volume(0x802, "/var", "xfs", 10),
                volume(0x19, "/run", "tmpfs", 2),
            ],
            written_by_the_host: BTreeSet::new(),
            files: BTreeMap::new(),
            next_inode: 100,
            allocates: true,
            handles: true,
        }
    }
}

impl Resources {
    /// What outlives a reboot.
    pub(crate) fn kept(&self) -> Self {
        let lasting = |file: &FileSeen| self.volumes.iter().any(|v| v.device == file.device && v.kind != "tmpfs");
        Self {
            volumes: self.volumes.clone(),
            files: self
                .files
                .iter()
                .filter(|(_, f)| lasting(f))
                .map(|(p, f)| (p.clone(), *f))
                .collect(),
            next_inode: self.next_inode,
            ..Self::default()
        }
    }

    /// The volume of a path, with what files take of it.
    pub(crate) fn volume(&self, path: &Path) -> Option<Volume> {
        let above = self.volumes.iter().filter(|volume| path.starts_with(&volume.mount_point));
        let mut volume = above.max_by_key(|volume| volume.mount_point.components().count())?.clone();
        let taken: u64 = self.files.values().filter(|f| f.device == volume.device).map(|f| f.allocated).sum();
        path.clone_into(&mut volume.path);
        volume.used += taken;
        volume.available = volume.available.saturating_sub(taken);
        Some(volume)
    }

    /// The handle of a file here is its inode, written out; `None` where volumes give none.
    fn handle_of(&self, inode: u64) -> Option<FileHandle> {
        self.handles.then(|| FileHandle {
            kind: 1,
            bytes: inode.to_be_bytes().to_vec(),
        })
    }

    /// The file of this handle on the volume of a folder, wherever it was moved.
    pub(crate) fn by_handle(&self, volume: &Path, bytes: &[u8]) -> Option<FileFound> {
        let device = self.volume(volume)?.device;
        let meant = |(_, file): &(&PathBuf, &FileSeen)| file.device == device && file.inode.to_be_bytes() == bytes;
        let (path, file) = self.files.iter().find(meant)?;
        Some(FileFound {
            seen: *file,
            links: 1,
            path: Some(path.clone()),
        })
    }

    pub(crate) fn make_file(&mut self, path: &Path) -> io::Result<Made> {
        if self.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let device = self.volume(path).ok_or(io::ErrorKind::NotFound)?.device;
        let inode = self.next_inode;
        self.next_inode += 1;
        let file = FileSeen {
            device,
            inode,
            regular: true,
            directory: false,
            size: 0,
            allocated: 0,
        };
        self.files.insert(path.to_owned(), file);
        let handle = self.handle_of(inode);
        Ok(Made { inode, handle })
    }

    pub(crate) fn grow_file(&mut self, path: &Path, inode: Option<u64>, bytes: u64) -> io::Result<bool> {
        if !self.allocates {
            return Ok(false);
        }
        let file = self.files.get_mut(path).filter(|file| Some(file.inode) == inode);
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        (file.size, file.allocated) = (bytes, bytes);
        Ok(true)
    }

    pub(crate) fn remove_file(&mut self, path: &Path, inode: Option<u64>) -> bool {
        let meant = self
            .files
            .get(path)
            .is_some_and(|file| inode.is_none_or(|inode| inode == file.inode));
        meant && self.files.remove(path).is_some()
    }
}
