//! Journals in memory for the suites, with the same rules as on disk and a crash point before, in and after each write.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto_model::id::InjectionId;

use crate::crash::CrashPlan;
use crate::error::JournalError;
use crate::file::{JournalDir, JournalFile};
use crate::journal::CHUNK;
use crate::store::JournalStore;
use crate::undo::UndoData;

const LOCK_PAUSE: Duration = Duration::from_millis(1);

impl<U: UndoData> JournalStore<U> {
    /// A store that is gone with its last clone.
    pub fn memory() -> Self {
        Self::memory_with(&CrashPlan::new())
    }

    /// The same, whose every write is three steps of `plan`.
    pub fn memory_with(plan: &CrashPlan) -> Self {
        let folder = |name: &'static str| {
            Arc::new(MemoryDir {
                name,
                files: Arc::default(),
                plan: plan.clone(),
            })
        };
        Self::of(folder("disk"), folder("mirror"))
    }
}

type MemoryFiles = Arc<Mutex<BTreeMap<InjectionId, Stored>>>;

#[derive(Default)]
struct Stored {
    bytes: Vec<u8>,
    locked: bool,
}

struct MemoryDir {
    name: &'static str,
    files: MemoryFiles,
    plan: CrashPlan,
}

struct MemoryFile {
    injection: InjectionId,
    path: PathBuf,
    files: MemoryFiles,
    plan: CrashPlan,
}

fn locked(files: &MemoryFiles) -> MutexGuard<'_, BTreeMap<InjectionId, Stored>> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDir {
    fn step(&self, step: &str) -> Result<(), JournalError> {
        self.plan.pass(&format!("{step} {}", self.name)).map_err(|_| JournalError::Crashed)
    }

    fn file(&self, injection: &InjectionId) -> Box<dyn JournalFile> {
        Box::new(MemoryFile {
            injection: injection.clone(),
            path: self.path(injection),
            files: self.files.clone(),
            plan: self.plan.clone(),
        })
    }

    /// `None` when there is no such file, else whether the lock was free and is ours now.
    fn try_lock(&self, injection: &InjectionId) -> Option<bool> {
        locked(&self.files)
            .get_mut(injection)
            .map(|copy| !std::mem::replace(&mut copy.locked, true))
    }
}

impl JournalDir for MemoryDir {
    fn create(&self, injection: &InjectionId, first: &[u8]) -> Result<Box<dyn JournalFile>, JournalError> {
        self.step("before creating the journal on")?;
        if locked(&self.files).contains_key(injection) {
            return Err(JournalError::Exists {
                injection: injection.clone(),
            });
        }
        let mut bytes = first.to_vec();
        bytes.resize(CHUNK as usize, 0);
        locked(&self.files).insert(injection.clone(), Stored { bytes, locked: true });
        let file = self.file(injection);
        self.step("after creating the journal on")?;
        Ok(file)
    }

    fn open(&self, injection: &InjectionId, wait: Duration) -> Result<Option<Box<dyn JournalFile>>, JournalError> {
        let deadline = Instant::now() + wait;
        loop {
            match self.try_lock(injection) {
                None => return Ok(None),
                Some(true) => return Ok(Some(self.file(injection))),
                Some(false) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
                Some(false) => {
                    return Err(JournalError::Locked {
                        path: self.path(injection),
                    });
                }
            }
        }
    }

    fn bytes(&self, injection: &InjectionId) -> Result<Option<Vec<u8>>, JournalError> {
        Ok(locked(&self.files).get(injection).map(|copy| copy.bytes.clone()))
    }

    fn ids(&self) -> Result<Vec<InjectionId>, JournalError> {
        Ok(locked(&self.files).keys().cloned().collect())
    }

    fn remove(&self, injection: &InjectionId) -> Result<(), JournalError> {
        self.step("before removing the journal from")?;
        locked(&self.files).remove(injection);
        self.step("after removing the journal from")
    }

    /// Nothing reads it again here.
    fn set_aside(&self, injection: &InjectionId) -> Result<(), JournalError> {
        self.step("before setting the journal aside on")?;
        locked(&self.files).remove(injection);
        self.step("after setting the journal aside on")
    }

    fn path(&self, injection: &InjectionId) -> PathBuf {
        Path::new(self.name).join(format!("{injection}.journal"))
    }
}

impl MemoryFile {
    fn step(&self, step: &str) -> io::Result<()> {
        self.plan.pass(&format!("{step} {}", self.path.display())).map_err(io::Error::other)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = locked(&self.files);
        let copy = files.get_mut(&self.injection).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let room = copy.bytes.get_mut(start..start + bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        room.copy_from_slice(bytes);
        Ok(())
    }
}

impl JournalFile for MemoryFile {
    fn read(&self) -> io::Result<Vec<u8>> {
        let files = locked(&self.files);
        files
            .get(&self.injection)
            .map(|copy| copy.bytes.clone())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.step("before writing")?;
        let half = bytes.len() / 2;
        self.put(offset, &bytes[..half])?;
        self.step("in the middle of writing")?;
        self.put(offset, bytes)?;
        self.step("after writing")
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.read()?.len() as u64)
    }

    fn grow(&mut self, size: u64) -> io::Result<()> {
        let size = usize::try_from(size).map_err(io::Error::other)?;
        let mut files = locked(&self.files);
        let copy = files.get_mut(&self.injection).ok_or(io::ErrorKind::NotFound)?;
        if size > copy.bytes.len() {
            copy.bytes.resize(size, 0);
        }
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if let Some(copy) = locked(&self.files).get_mut(&self.injection) {
            copy.locked = false;
        }
    }
}
