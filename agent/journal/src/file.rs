//! The seam below the journal: files of bytes in a folder, durable when a write returns. Nothing here knows what a record is.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto_model::id::InjectionId;

use crate::error::JournalError;

/// One file of one journal; while it lives it holds that file's lock.
pub(crate) trait JournalFile: Send {
    fn read(&self) -> io::Result<Vec<u8>>;
    /// On return the bytes survive a power cut.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Bytes that can be written without asking for more space.
    fn size(&self) -> io::Result<u64>;
    fn grow(&mut self, size: u64) -> io::Result<()>;
    fn path(&self) -> &Path;
}

/// Where they are kept.
pub(crate) trait JournalDir: Send + Sync {
    /// Makes a file that holds `first`, locked; there is never a moment at which others see it without. Fails when it exists.
    fn create(&self, injection: &InjectionId, first: &[u8]) -> Result<Box<dyn JournalFile>, JournalError>;
    /// Waits for the file's lock; `None` when there is no such file.
    fn open(&self, injection: &InjectionId, wait: Duration) -> Result<Option<Box<dyn JournalFile>>, JournalError>;
    /// Everything on it, without its lock.
    fn bytes(&self, injection: &InjectionId) -> Result<Option<Vec<u8>>, JournalError>;
    fn ids(&self) -> Result<Vec<InjectionId>, JournalError>;
    /// Already gone is success.
    fn remove(&self, injection: &InjectionId) -> Result<(), JournalError>;
    /// Keeps the file where it is no journal any more; already gone is success.
    fn set_aside(&self, injection: &InjectionId) -> Result<(), JournalError>;
    fn path(&self, injection: &InjectionId) -> PathBuf;
    /// Whether a file could be made now; nothing stays of the try.
    fn check(&self) -> Result<(), JournalError> {
        Ok(())
    }
}
