//! Where journals are kept, each on disk and once more in /run; it opens, lists and forgets them and never reads their meaning.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto_model::id::InjectionId;

use crate::disk::DiskDir;
use crate::error::JournalError;
use crate::file::{JournalDir, JournalFile};
use crate::format::{self, Line};
use crate::history::History;
use crate::journal::{Journal, JournalCopy};
use crate::record::{Opened, Record};
use crate::undo::UndoData;

/// How long `forget` waits for a journal that somebody else holds.
const FORGET_WAIT: Duration = Duration::from_secs(1);

/// All journals of this host. Clones are the same store.
pub struct JournalStore<U> {
    disk: Arc<dyn JournalDir>,
    mirror: Arc<dyn JournalDir>,
    undos: PhantomData<fn() -> U>,
}

impl<U> Clone for JournalStore<U> {
    fn clone(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            mirror: self.mirror.clone(),
            undos: PhantomData,
        }
    }
}

impl<U: UndoData> JournalStore<U> {
    /// Makes both folders (mode 0700) if they are missing.
    pub fn open(disk: &Path, mirror: &Path) -> Result<Self, JournalError> {
        Ok(Self::of(Arc::new(DiskDir::open(disk)?), Arc::new(DiskDir::open(mirror)?)))
    }

    /// Where the journals lie: what fills the volumes of these folders must leave some room.
    pub fn folders(&self) -> Vec<PathBuf> {
        let files = self.files(&InjectionId::generate());
        files.iter().filter_map(|path| path.parent().map(Path::to_owned)).collect()
    }

    /// The two copies of one journal, whether or not they are there.
    pub fn files(&self, injection: &InjectionId) -> [PathBuf; 2] {
        [self.disk.path(injection), self.mirror.path(injection)]
    }

    pub(crate) fn of(disk: Arc<dyn JournalDir>, mirror: Arc<dyn JournalDir>) -> Self {
        Self {
            disk,
            mirror,
            undos: PhantomData,
        }
    }

    /// Whether a way back could be written down now; nothing stays of the try. The second copy is a chance, not a condition.
    pub fn check(&self) -> Result<(), JournalError> {
        self.disk.check()
    }

    /// Starts a journal, synced and locked; fails when there is one of this injection already.
    pub fn create(&self, opened: Opened) -> Result<Journal<U>, JournalError> {
        let injection = opened.injection.clone();
        if self.mirror.bytes(&injection).is_ok_and(|bytes| bytes.is_some()) {
            return Err(JournalError::Exists { injection });
        }
        let line = format::encode(None, Record::Opened(opened.clone()))?;
        let disk = JournalCopy {
            file: self.disk.create(&injection, &line.bytes)?,
            lines: 1,
        };
        let mirror = self
            .mirror
            .create(&injection, &line.bytes)
            .ok()
            .map(|file| JournalCopy { file, lines: 1 });
        Ok(Journal {
            disk: Some(disk),
            mirror,
            lines: vec![line],
            history: History::begin(opened),
            tried: false,
        })
    }

    /// Every injection that has a journal, open or closed.
    pub fn ids(&self) -> Result<Vec<InjectionId>, JournalError> {
        let mirrored = self.mirror.ids().unwrap_or_default();
        let written = match self.disk.ids() {
            Err(error) if mirrored.is_empty() => return Err(error),
            written => written.unwrap_or_default(),
        };
        let all: BTreeSet<InjectionId> = written.into_iter().chain(mirrored).collect();
        Ok(all.into_iter().collect())
    }

    /// Holds a journal alone and reads it anew; `Locked` when somebody else still holds it after `wait`.
    ///
    /// Both copies are locked, the disk's first, so that one who finds only the mirror is kept out as well.
    pub fn lock(&self, injection: &InjectionId, wait: Duration) -> Result<Journal<U>, JournalError> {
        let disk = self.disk.open(injection, wait);
        if let Err(error @ (JournalError::Locked { .. } | JournalError::Crashed)) = disk {
            return Err(error);
        }
        let mirror = match self.mirror.open(injection, wait) {
            Err(error @ JournalError::Locked { .. }) => return Err(error),
            mirror => mirror.ok().flatten(),
        };
        if mirror.is_none() && !matches!(disk, Ok(Some(_))) {
            disk?;
            return Err(JournalError::Absent {
                injection: injection.clone(),
            });
        }
        self.assemble(injection, disk.ok().flatten(), mirror)
    }

    fn assemble(
        &self,
        injection: &InjectionId,
        disk: Option<Box<dyn JournalFile>>,
        mirror: Option<Box<dyn JournalFile>>,
    ) -> Result<Journal<U>, JournalError> {
        let lines_of = |file: &Option<Box<dyn JournalFile>>| {
            file.as_ref()
                .and_then(|p| p.read().ok())
                .map(|b| format::decode::<U>(&b))
                .unwrap_or_default()
        };
        let (disk_lines, mirror_lines) = (lines_of(&disk), lines_of(&mirror));
        let lines = longer(&disk_lines, &mirror_lines).to_vec();
        let history = self.history_of(injection, &lines)?;
        let copy = |file: Box<dyn JournalFile>, own: &[Line<U>]| JournalCopy {
            file,
            lines: shared(own, &lines),
        };
        let disk = disk.map(|file| copy(file, &disk_lines));
        let mirror = match mirror {
            Some(file) => Some(copy(file, &mirror_lines)),
            None => self
                .mirror
                .create(injection, &lines[0].bytes)
                .ok()
                .map(|file| JournalCopy { file, lines: 1 }),
        };
        let tried = history.is_ending();
        Ok(Journal {
            disk,
            mirror,
            lines,
            history,
            tried,
        })
    }

    /// What a journal says now, without holding it.
    pub fn read(&self, injection: &InjectionId) -> Result<History<U>, JournalError> {
        let disk = self.disk.bytes(injection);
        let mirror = self.mirror.bytes(injection).ok().flatten();
        let disk = match (disk, &mirror) {
            (Err(error), None) => return Err(error),
            (Ok(None), None) => {
                return Err(JournalError::Absent {
                    injection: injection.clone(),
                });
            }
            (disk, _) => disk.ok().flatten(),
        };
        let lines_of = |bytes: Option<Vec<u8>>| bytes.map(|b| format::decode::<U>(&b)).unwrap_or_default();
        let (disk, mirror) = (lines_of(disk), lines_of(mirror));
        self.history_of(injection, longer(&disk, &mirror))
    }

    /// Deletes a closed journal; one that is still open is refused.
    pub fn forget(&self, injection: &InjectionId) -> Result<(), JournalError> {
        let journal = self.lock(injection, FORGET_WAIT)?;
        if journal.history().is_open() {
            return Err(JournalError::StillOpen {
                injection: injection.clone(),
            });
        }
        self.disk.remove(injection)?;
        self.mirror.remove(injection)
    }

    /// Takes a journal that cannot be read out of the store, under the locks of both copies, once a person answers for what it was to undo.
    /// Its bytes are kept for that person, in a folder beside each of ours.
    ///
    /// The copy on disk goes last: a process that is killed in between leaves a journal that is still damaged, and this is done again.
    pub fn set_aside(&self, injection: &InjectionId) -> Result<(), JournalError> {
        let _disk = self.disk.open(injection, FORGET_WAIT)?;
        let _mirror = self.mirror.open(injection, FORGET_WAIT)?;
        self.mirror.set_aside(injection)?;
        self.disk.set_aside(injection)
    }

    fn history_of(&self, injection: &InjectionId, lines: &[Line<U>]) -> Result<History<U>, JournalError> {
        let damaged = |why: &str| JournalError::Damaged {
            path: self.disk.path(injection),
            why: why.to_owned(),
        };
        let history = History::of(lines).ok_or_else(|| damaged("it does not begin with an opening"))?;
        if history.opened.injection != *injection {
            return Err(damaged("it tells of another injection"));
        }
        Ok(history)
    }
}

/// The mirror counts when it goes on where the disk ends: same opening, so same boot.
fn longer<'a, U>(disk: &'a [Line<U>], mirror: &'a [Line<U>]) -> &'a [Line<U>] {
    if shared(disk, mirror) == disk.len() { mirror } else { disk }
}

/// How many lines two copies have in common, from the first on.
fn shared<U>(one: &[Line<U>], other: &[Line<U>]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a.checksum == b.checksum).count()
}
