//! What a worker of ours tells of itself: a page in memory that it writes and anybody may read; nothing is written here.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::ViewError;

/// The name of the page, by which it is found among a worker's open files.
pub const PAGE: &str = "fracas-note";
/// Open files of a worker that are looked at.
const MOST_FILES: usize = 64;
/// The longest note that is read.
const MOST_BYTES: usize = 64 * 1024;

/// `None` when the worker is gone or has no such page.
pub(crate) fn note(pid: u32) -> Result<Option<String>, ViewError> {
    let failed = |e| ViewError::new(format!("the note of worker {pid}"), e);
    let Some(page) = gone_is_none(find(pid)).map_err(failed)?.flatten() else {
        return Ok(None);
    };
    let read = gone_is_none(read(&page)).map_err(failed)?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok().filter(|text| text.len() <= MOST_BYTES);
    Ok(read.and_then(text).filter(|text| !text.is_empty()))
}

/// No more than a note may be: how long the page says it is, is the worker's to choose.
fn read(page: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(page)?.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn find(pid: u32) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.take(MOST_FILES) {
        let path = entry?.path();
        let is_page = |target: PathBuf| target.to_string_lossy().starts_with(&format!("/memfd:{PAGE}"));
        if fs::read_link(&path).is_ok_and(is_page) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn gone_is_none<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(e) => Err(e),
    }
}
