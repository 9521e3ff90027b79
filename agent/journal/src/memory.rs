//! Journals in memory for the suites, with the same rules as on disk and a crash point before, in and after each write.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto_model::id::InjectionId;

use crate::crash::CrashPlan;
use crate::error::JournalError;
use crate::journal::CHUNK;
use crate::paper::{Folder, Paper};
use crate::shelf::Shelf;
use crate::undo::UndoData;

const LOCK_PAUSE: Duration = Duration::from_millis(1);

impl<U: UndoData> Shelf<U> {
    /// A shelf that is gone with its last clone.
    pub fn memory() -> Self {
        Self::memory_with(&CrashPlan::new())
    }

    /// The same, whose every write is three steps of `plan`.
    pub fn memory_with(plan: &CrashPlan) -> Self {
        let folder = |name: &'static str| {
            Arc::new(MemoryFolder {
                name,
                sheets: Arc::default(),
                plan: plan.clone(),
            })
        };
        Self::of(folder("disk"), folder("mirror"))
    }
}

type Sheets = Arc<Mutex<BTreeMap<InjectionId, Stored>>>;

#[derive(Default)]
struct Stored {
    bytes: Vec<u8>,
    locked: bool,
}

struct MemoryFolder {
    name: &'static str,
    sheets: Sheets,
    plan: CrashPlan,
}

struct MemoryPaper {
    injection: InjectionId,
    path: PathBuf,
    sheets: Sheets,
    plan: CrashPlan,
}

fn locked(sheets: &Sheets) -> MutexGuard<'_, BTreeMap<InjectionId, Stored>> {
    sheets.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryFolder {
    fn step(&self, step: &str) -> Result<(), JournalError> {
        self.plan.pass(&format!("{step} {}", self.name)).map_err(|_| JournalError::Crashed)
    }

    fn paper(&self, injection: &InjectionId) -> Box<dyn Paper> {
        Box::new(MemoryPaper {
            injection: injection.clone(),
            path: self.path(injection),
            sheets: self.sheets.clone(),
            plan: self.plan.clone(),
        })
    }

    /// `None` when there is no such sheet, else whether the lock was free and is ours now.
    fn try_lock(&self, injection: &InjectionId) -> Option<bool> {
        locked(&self.sheets)
            .get_mut(injection)
            .map(|sheet| !std::mem::replace(&mut sheet.locked, true))
    }
}

impl Folder for MemoryFolder {
    fn create(&self, injection: &InjectionId, first: &[u8]) -> Result<Box<dyn Paper>, JournalError> {
        self.step("before creating the journal on")?;
        if locked(&self.sheets).contains_key(injection) {
            return Err(JournalError::Exists {
                injection: injection.clone(),
            });
        }
        let mut bytes = first.to_vec();
        bytes.resize(CHUNK as usize, 0);
        locked(&self.sheets).insert(injection.clone(), Stored { bytes, locked: true });
        let paper = self.paper(injection);
        self.step("after creating the journal on")?;
        Ok(paper)
    }

    fn open(&self, injection: &InjectionId, wait: Duration) -> Result<Option<Box<dyn Paper>>, JournalError> {
        let deadline = Instant::now() + wait;
        loop {
            match self.try_lock(injection) {
                None => return Ok(None),
                Some(true) => return Ok(Some(self.paper(injection))),
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
        Ok(locked(&self.sheets).get(injection).map(|sheet| sheet.bytes.clone()))
    }

    fn ids(&self) -> Result<Vec<InjectionId>, JournalError> {
        Ok(locked(&self.sheets).keys().cloned().collect())
    }

    fn remove(&self, injection: &InjectionId) -> Result<(), JournalError> {
        self.step("before removing the journal from")?;
        locked(&self.sheets).remove(injection);
        self.step("after removing the journal from")
    }

    fn path(&self, injection: &InjectionId) -> PathBuf {
        Path::new(self.name).join(format!("{injection}.journal"))
    }
}

impl MemoryPaper {
    fn step(&self, step: &str) -> io::Result<()> {
        self.plan.pass(&format!("{step} {}", self.path.display())).map_err(io::Error::other)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut sheets = locked(&self.sheets);
        let sheet = sheets.get_mut(&self.injection).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let room = sheet.bytes.get_mut(start..start + bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        room.copy_from_slice(bytes);
        Ok(())
    }
}

impl Paper for MemoryPaper {
    fn read(&self) -> io::Result<Vec<u8>> {
        let sheets = locked(&self.sheets);
        sheets
            .get(&self.injection)
            .map(|sheet| sheet.bytes.clone())
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
        let mut sheets = locked(&self.sheets);
        let sheet = sheets.get_mut(&self.injection).ok_or(io::ErrorKind::NotFound)?;
        if size > sheet.bytes.len() {
            sheet.bytes.resize(size, 0);
        }
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for MemoryPaper {
    fn drop(&mut self) {
        if let Some(sheet) = locked(&self.sheets).get_mut(&self.injection) {
            sheet.locked = false;
        }
    }
}
