//! The seam below the journal: sheets of bytes in a folder, durable when a write returns. Nothing here knows what a record is.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto_model::id::InjectionId;

use crate::error::JournalError;

/// One file of one journal; while it lives it holds that file's lock.
pub(crate) trait Paper: Send {
    fn read(&self) -> io::Result<Vec<u8>>;
    /// On return the bytes survive a power cut.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Bytes that can be written without asking for more space.
    fn size(&self) -> io::Result<u64>;
    fn grow(&mut self, size: u64) -> io::Result<()>;
    fn path(&self) -> &Path;
}

/// Where sheets are kept.
pub(crate) trait Folder: Send + Sync {
    /// Makes a sheet that holds `first`, locked; there is never a moment at which others see it without. Fails when it exists.
    fn create(&self, injection: &InjectionId, first: &[u8]) -> Result<Box<dyn Paper>, JournalError>;
    /// Waits for the sheet's lock; `None` when there is no such sheet.
    fn open(&self, injection: &InjectionId, wait: Duration) -> Result<Option<Box<dyn Paper>>, JournalError>;
    /// Everything on it, without its lock.
    fn bytes(&self, injection: &InjectionId) -> Result<Option<Vec<u8>>, JournalError>;
    fn ids(&self) -> Result<Vec<InjectionId>, JournalError>;
    /// Already gone is success.
    fn remove(&self, injection: &InjectionId) -> Result<(), JournalError>;
    fn path(&self, injection: &InjectionId) -> PathBuf;
    /// Whether a sheet could be made now; nothing stays of the try.
    fn check(&self) -> Result<(), JournalError> {
        Ok(())
    }
}
