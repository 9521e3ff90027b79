//! Memory, volumes and ballast files of a fake host, and what a test may do to them behind our back.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use agent_journal::FileHandle;
use agent_view::{FileFound, FileSeen, Memory, ProcessMemory, Volume};

use super::{FakeHost, State};
use crate::hands::Made;

/// What a fake host has that faults use up.
#[derive(Debug, Clone)]
pub(super) struct Goods {
    pub(super) memory: Memory,
    pub(super) workers: BTreeMap<u32, ProcessMemory>,
    pub(super) oom_kills: u64,
    volumes: Vec<Volume>,
    pub(super) files: BTreeMap<PathBuf, FileSeen>,
    next_inode: u64,
    allocates: bool,
    handles: bool,
}

impl Default for Goods {
    /// 8 GiB of memory, 6 of them free; 40 GiB on /, 10 GiB on /var, both half full, and a tmpfs at /run.
    fn default() -> Self {
        let volume = |device, point: &str, kind: &str, gib: u64| Volume {
            path: PathBuf::from(point),
            is_folder: true,
            device,
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
            files: BTreeMap::new(),
            next_inode: 100,
            allocates: true,
            handles: true,
        }
    }
}

impl Goods {
    /// What outlives a reboot.
    pub(super) fn kept(&self) -> Self {
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
    pub(super) fn volume(&self, path: &Path) -> Option<Volume> {
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
    pub(super) fn by_handle(&self, volume: &Path, bytes: &[u8]) -> Option<FileFound> {
        let device = self.volume(volume)?.device;
        let meant = |(_, file): &(&PathBuf, &FileSeen)| file.device == device && file.inode.to_be_bytes() == bytes;
        let (path, file) = self.files.iter().find(meant)?;
        Some(FileFound {
            seen: *file,
            links: 1,
            path: Some(path.clone()),
        })
    }

    pub(super) fn make_file(&mut self, path: &Path) -> io::Result<Made> {
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

    pub(super) fn grow_file(&mut self, path: &Path, inode: Option<u64>, bytes: u64) -> io::Result<bool> {
        if !self.allocates {
            return Ok(false);
        }
        let file = self.files.get_mut(path).filter(|file| Some(file.inode) == inode);
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        (file.size, file.allocated) = (bytes, bytes);
        Ok(true)
    }

    pub(super) fn remove_file(&mut self, path: &Path, inode: Option<u64>) -> bool {
        let meant = self
            .files
            .get(path)
            .is_some_and(|file| inode.is_none_or(|inode| inode == file.inode));
        meant && self.files.remove(path).is_some()
    }
}

impl State {
    /// What a worker has is gone with it.
    pub(super) fn forget_memory(&mut self, pid: u32) {
        if let Some(had) = self.goods.workers.remove(&pid) {
            self.goods.memory.available += had.pss;
        }
    }
}

impl FakeHost {
    pub fn set_memory(&self, memory: Memory) {
        self.state().goods.memory = memory;
    }

    /// As its worker would do it: takes memory of the host's.
    pub fn set_worker_memory(&self, pid: u32, has: ProcessMemory) {
        let mut state = self.state();
        state.forget_memory(pid);
        state.goods.memory.available = state.goods.memory.available.saturating_sub(has.pss);
        state.goods.workers.insert(pid, has);
    }

    /// The kernel ends a process because there is no memory left.
    pub fn out_of_memory(&self, pid: u32) {
        let mut state = self.state();
        state.end(pid);
        state.goods.oom_kills += 1;
    }

    /// Mounts a volume, over whatever is mounted at its point.
    pub fn set_volume(&self, volume: Volume) {
        let mut state = self.state();
        state.goods.volumes.retain(|v| v.mount_point != volume.mount_point);
        state.goods.volumes.push(volume);
    }

    pub fn unmount(&self, point: &Path) {
        self.state().goods.volumes.retain(|volume| volume.mount_point != point);
    }

    /// What lies at a path is this from now on.
    pub fn set_file(&self, path: &Path, file: Option<FileSeen>) {
        let mut state = self.state();
        state.goods.files.remove(path);
        state.goods.files.extend(file.map(|file| (path.to_owned(), file)));
    }

    /// Somebody moves a file.
    pub fn move_file(&self, from: &Path, to: &Path) {
        let mut state = self.state();
        let file = state.goods.files.remove(from);
        state.goods.files.extend(file.map(|file| (to.to_owned(), file)));
    }

    /// From now on no file system gives handles.
    pub fn refuse_handles(&self) {
        self.state().goods.handles = false;
    }

    /// From now on no file system can give space without writing.
    pub fn refuse_to_allocate(&self) {
        self.state().goods.allocates = false;
    }
}
