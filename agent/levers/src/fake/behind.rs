//! What a test may do to the memory, volumes and files of a fake host behind our back.

use std::path::Path;

use agent_view::{FileSeen, Memory, ProcessMemory, Volume};

use super::host::{FakeHost, State};

impl State {
    /// What a worker has is gone with it.
    pub(crate) fn forget_memory(&mut self, pid: u32) {
        if let Some(had) = self.resources.workers.remove(&pid) {
            self.resources.memory.available += had.pss;
        }
    }
}

impl FakeHost {
    pub fn set_memory(&self, memory: Memory) {
        self.state().resources.memory = memory;
    }

    /// As its worker would do it: takes memory of the host's.
    pub fn set_worker_memory(&self, pid: u32, has: ProcessMemory) {
        let mut state = self.state();
        state.forget_memory(pid);
        state.resources.memory.available = state.resources.memory.available.saturating_sub(has.pss);
        state.resources.workers.insert(pid, has);
    }

    /// The kernel ends a process because there is no memory left.
    pub fn out_of_memory(&self, pid: u32) {
        let mut state = self.state();
        state.end(pid);
        state.resources.oom_kills += 1;
    }

    /// Mounts a volume, over whatever is mounted at its point.
    pub fn set_volume(&self, volume: Volume) {
        let mut state = self.state();
        state.resources.volumes.retain(|v| v.mount_point != volume.mount_point);
        state.resources.volumes.push(volume);
    }

    /// Mounts it read-only for the agent alone, as its unit may.
    pub fn keep_from_writing(&self, point: &Path) {
        let mut state = self.state();
        let resources = &mut state.resources;
        let at_point = resources.volumes.iter_mut().filter(|volume| volume.mount_point == point);
        at_point.for_each(|volume| volume.read_only = true);
        resources.written_by_the_host.insert(point.to_owned());
    }

    pub fn unmount(&self, point: &Path) {
        self.state().resources.volumes.retain(|volume| volume.mount_point != point);
    }

    /// What lies at a path is this from now on.
    pub fn set_file(&self, path: &Path, file: Option<FileSeen>) {
        let mut state = self.state();
        state.resources.files.remove(path);
        state.resources.files.extend(file.map(|file| (path.to_owned(), file)));
    }

    /// Somebody moves a file.
    pub fn move_file(&self, from: &Path, to: &Path) {
        let mut state = self.state();
        let file = state.resources.files.remove(from);
        state.resources.files.extend(file.map(|file| (to.to_owned(), file)));
    }

    /// From now on no file system gives handles.
    pub fn refuse_handles(&self) {
        self.state().resources.handles = false;
    }

    /// From now on no file system can give space without writing.
    pub fn refuse_to_allocate(&self) {
        self.state().resources.allocates = false;
    }
}
