//! The calls that make bytes and names survive a power cut, behind a seam, so that a suite can cut the power after each of them.

use std::fs::File;
use std::io;
use std::path::Path;

pub(crate) trait Sync: Send + std::marker::Sync {
    /// The file's bytes, and its size where that has changed.
    fn data(&self, file: &File) -> io::Result<()>;
    /// The file's bytes and everything that is known about it.
    fn all(&self, file: &File) -> io::Result<()>;
    /// The names in a folder.
    fn names(&self, folder: &Path) -> io::Result<()>;
}

/// The kernel's own.
pub(crate) struct KernelSync;

impl Sync for KernelSync {
    fn data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn names(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}
