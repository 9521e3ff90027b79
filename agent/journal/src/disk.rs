//! Journals as files: made whole before they have a name, preallocated, locked by flock, synced with their folder.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto_model::id::InjectionId;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

use crate::error::JournalError;
use crate::file::{JournalDir, JournalFile};
use crate::journal::CHUNK;
use crate::sync::{KernelSync, Sync};

const SUFFIX: &str = ".journal";
/// Added to the name of the folder: what was set aside lies beside it, where neither a store nor fracas-guard.path takes it for a journal.
const ASIDE: &str = ".accepted";
/// Names of files that are not journals yet.
const UNFINISHED: &str = ".new-";
/// Between two tries to get a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// No journal is read beyond this.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// A folder of journals, one file each.
pub(crate) struct DiskDir {
    folder: PathBuf,
    sync: Arc<dyn Sync>,
}

struct DiskFile {
    file: File,
    path: PathBuf,
    sync: Arc<dyn Sync>,
}

impl DiskDir {
    pub(crate) fn open(folder: &Path) -> Result<Self, JournalError> {
        Self::with(folder, Arc::new(KernelSync))
    }

    pub(crate) fn with(folder: &Path, sync: Arc<dyn Sync>) -> Result<Self, JournalError> {
        make_private(folder)?;
        let this = Self {
            folder: folder.to_owned(),
            sync,
        };
        this.drop_unfinished();
        Ok(this)
    }

    /// Removes what a crash left before it became a journal: nothing was ever pulled for it.
    fn drop_unfinished(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED)
                && let Ok(file) = File::open(entry.path())
                && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                // A name that stays is harmless.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn sync(&self) -> Result<(), JournalError> {
        self.sync_names(&self.folder)
    }

    fn sync_names(&self, folder: &Path) -> Result<(), JournalError> {
        self.sync.names(folder).map_err(|e| JournalError::io("sync the folder", folder, e))
    }

    /// The folder of what was set aside, made if it is missing; durable before anything is moved there.
    fn aside(&self) -> Result<PathBuf, JournalError> {
        let mut name = self.folder.file_name().unwrap_or_default().to_owned();
        name.push(ASIDE);
        let aside = self.folder.with_file_name(name);
        make_private(&aside)?;
        if let Some(parent) = aside.parent() {
            self.sync_names(parent)?;
        }
        Ok(aside)
    }

    fn journal_file(&self, file: File, path: &Path) -> DiskFile {
        DiskFile {
            file,
            path: path.to_owned(),
            sync: self.sync.clone(),
        }
    }

    fn write_new(&self, path: &Path, first: &[u8]) -> Result<DiskFile, JournalError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| JournalError::io("create", path, e))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| JournalError::io("lock", path, e.into()))?;
        let mut journal_file = self.journal_file(file, path);
        journal_file.grow(CHUNK).map_err(|e| JournalError::io("make room for", path, e))?;
        journal_file.write(0, first).map_err(|e| JournalError::io("write", path, e))?;
        self.sync.all(&journal_file.file).map_err(|e| JournalError::io("sync", path, e))?;
        Ok(journal_file)
    }
}

impl JournalDir for DiskDir {
    fn create(&self, injection: &InjectionId, first: &[u8]) -> Result<Box<dyn JournalFile>, JournalError> {
        let path = self.path(injection);
        let unfinished = self.folder.join(format!("{UNFINISHED}{injection}-{}", std::process::id()));
        // Left by a crash of a process with our pid; a living one would be us.
        let _ = fs::remove_file(&unfinished);
        let made = self
            .write_new(&unfinished, first)
            .and_then(|journal_file| match fs::hard_link(&unfinished, &path) {
                Ok(()) => Ok(journal_file),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(JournalError::Exists {
                    injection: injection.clone(),
                }),
                Err(e) => Err(JournalError::io("name", &path, e)),
            });
        let _ = fs::remove_file(&unfinished);
        let mut journal_file = made?;
        if let Err(error) = self.sync() {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        journal_file.path = path;
        Ok(Box::new(journal_file))
    }

    fn open(&self, injection: &InjectionId, wait: Duration) -> Result<Option<Box<dyn JournalFile>>, JournalError> {
        let path = self.path(injection);
        let Some(file) = open_writable(&path)? else { return Ok(None) };
        lock_within(&file, &path, wait)?;
        let links = file.metadata().map_err(|e| JournalError::io("look at", &path, e))?.nlink();
        if links == 0 {
            // Forgotten while we waited.
            return Ok(None);
        }
        Ok(Some(Box::new(self.journal_file(file, &path))))
    }

    fn bytes(&self, injection: &InjectionId) -> Result<Option<Vec<u8>>, JournalError> {
        let path = self.path(injection);
        match File::open(&path) {
            Ok(file) => self
                .journal_file(file, &path)
                .read()
                .map(Some)
                .map_err(|e| JournalError::io("read", &path, e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(JournalError::io("open", &path, e)),
        }
    }

    fn ids(&self) -> Result<Vec<InjectionId>, JournalError> {
        let failed = |e| JournalError::io("list", &self.folder, e);
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            ids.extend(id.and_then(|id| InjectionId::parse(id).ok()));
        }
        Ok(ids)
    }

    fn remove(&self, injection: &InjectionId) -> Result<(), JournalError> {
        let path = self.path(injection);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(JournalError::io("remove", &path, e)),
            _ => self.sync(),
        }
    }

    fn set_aside(&self, injection: &InjectionId) -> Result<(), JournalError> {
        let path = self.path(injection);
        if !path.try_exists().map_err(|e| JournalError::io("look for", &path, e))? {
            return Ok(());
        }
        let aside = self.aside()?;
        fs::rename(&path, aside.join(file_name(injection))).map_err(|e| JournalError::io("set aside", &path, e))?;
        self.sync_names(&aside)?;
        self.sync()
    }

    fn check(&self) -> Result<(), JournalError> {
        // A crash leaves a name that the next opening drops.
        let draft = self.folder.join(format!("{UNFINISHED}check-{}", std::process::id()));
        let _ = fs::remove_file(&draft);
        let tried = self.write_new(&draft, b"").map(drop);
        let _ = fs::remove_file(&draft);
        tried
    }

    fn path(&self, injection: &InjectionId) -> PathBuf {
        self.folder.join(file_name(injection))
    }
}

fn file_name(injection: &InjectionId) -> String {
    format!("{injection}{SUFFIX}")
}

fn make_private(folder: &Path) -> Result<(), JournalError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| JournalError::io("create the folder", folder, e))
}

/// On a read-only disk it is opened for reading: then only appending fails.
fn open_writable(path: &Path) -> Result<Option<File>, JournalError> {
    let opened = match OpenOptions::new().read(true).write(true).open(path) {
        Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path),
        other => other,
    };
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(JournalError::io("open", path, e)),
    }
}

fn lock_within(file: &File, path: &Path, wait: Duration) -> Result<(), JournalError> {
    let deadline = Instant::now() + wait;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(JournalError::Locked { path: path.to_owned() }),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(JournalError::io("lock", path, errno.into())),
        }
    }
}

impl JournalFile for DiskFile {
    fn read(&self) -> io::Result<Vec<u8>> {
        let length = self.file.metadata()?.len().min(MOST_BYTES);
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.sync.data(&self.file)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn grow(&mut self, size: u64) -> io::Result<()> {
        match fallocate(&self.file, FallocateFlags::empty(), 0, size) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let old = self.size()?;
                let zeros = vec![0; usize::try_from(size.saturating_sub(old)).map_err(io::Error::other)?];
                self.file.write_all_at(&zeros, old)?;
            }
            Err(errno) => return Err(errno.into()),
        }
        self.sync.all(&self.file)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
