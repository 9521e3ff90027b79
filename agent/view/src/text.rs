//! Small files of the kernel, read whole and with a limit; a missing one is an answer, not an error.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::ViewError;

/// No file of the kernel that we read is longer, but for tables of sockets and mounts.
const LIMIT: u64 = 16 * 1024 * 1024;

/// `None` when there is no such file, or no such process any more.
pub(crate) fn read_if_there(path: impl AsRef<Path>) -> Result<Option<String>, ViewError> {
    read_start_if_there(path, LIMIT)
}

/// The beginning of a file that a local user can make as long as he likes, such as a command line.
pub(crate) fn read_start_if_there(path: impl AsRef<Path>, limit: u64) -> Result<Option<String>, ViewError> {
    let path = path.as_ref();
    match read_bytes(path, limit) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(ViewError::new(path.display().to_string(), e)),
    }
}

pub(crate) fn read(path: impl AsRef<Path>) -> Result<String, ViewError> {
    let path = path.as_ref();
    read_bytes(path, LIMIT)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|e| ViewError::new(path.display().to_string(), e))
}

fn read_bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file below /proc/PID answers ESRCH when the process ends between opening and reading.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) || error.raw_os_error() == Some(libc::ESRCH)
}
