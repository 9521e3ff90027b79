//! Files by what their file system calls them, whatever their path is: found again after somebody moved them; it changes none.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::error::ViewError;
use crate::named::Named;
use crate::volumes::{self, FileSeen};

/// The most bytes that any file system's handle has.
const LONGEST: usize = 128;
/// What is answered where there are no handles, or none for us.
const NO_HANDLES: [i32; 6] = [
    libc::EOPNOTSUPP,
    libc::EOVERFLOW,
    libc::ENOSYS,
    libc::EINVAL,
    libc::EPERM,
    libc::EACCES,
];
/// Entries of a volume that are looked through for a file's name where the kernel does not know it.
const MOST_ENTRIES: usize = 20_000;

/// A file that its handle led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFound {
    pub seen: FileSeen,
    /// Its names; without any it lives as long as somebody has it open.
    pub links: u64,
    /// One of them, where one could be found.
    pub path: Option<PathBuf>,
}

/// As the kernel wants it.
#[repr(C)]
struct RawHandle {
    bytes: u32,
    kind: i32,
    content: [u8; LONGEST],
}

impl RawHandle {
    fn of(kind: i32, bytes: &[u8]) -> Option<Self> {
        let mut content = [0; LONGEST];
        content.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self {
            bytes: u32::try_from(bytes.len()).ok()?,
            kind,
            content,
        })
    }
}

/// The handle of an open file, kind and bytes; `None` where its file system gives none by which it can be opened again.
pub fn handle_of(file: &File) -> io::Result<Option<(i32, Vec<u8>)>> {
    let mut handle = RawHandle {
        bytes: LONGEST as u32,
        kind: 0,
        content: [0; LONGEST],
    };
    let mut mount = 0;
    // SAFETY: the empty path means the descriptor, which is open; the kernel writes at most `bytes` bytes into the content behind
    // the two numbers, and one c_int; both outlive the call.
    let result = unsafe {
        libc::name_to_handle_at(
            file.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if result != 0 {
        return match io::Error::last_os_error() {
            error if error.raw_os_error().is_some_and(|errno| NO_HANDLES.contains(&errno)) => Ok(None),
            error => Err(error),
        };
    }
    let found = (handle.kind, handle.content[..handle.bytes as usize].to_vec());
    let again = open_by_handle(file, found.0, &found.1);
    let same = again.ok().flatten().and_then(|fd| File::from(fd).metadata().ok());
    let itself = file.metadata()?;
    Ok(same
        .filter(|same| (same.dev(), same.ino()) == (itself.dev(), itself.ino()))
        .map(|_| found))
}

/// Opens the file (`O_PATH`) on the file system of `anchor`; `None` when it is really gone.
pub fn open_by_handle(anchor: &File, kind: i32, bytes: &[u8]) -> io::Result<Option<OwnedFd>> {
    let Some(mut handle) = RawHandle::of(kind, bytes) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: the anchor is open, and the handle has as many bytes of content as it says; it outlives the call.
    let fd = unsafe { libc::open_by_handle_at(anchor.as_raw_fd(), (&raw mut handle).cast(), libc::O_PATH | libc::O_CLOEXEC) };
    if fd >= 0 {
        // SAFETY: the kernel has just given this descriptor to us alone.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESTALE) => Ok(None),
        error => Err(error),
    }
}

/// A folder of the volume on which a handle is to be opened.
pub fn anchor(folder: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::open(folder, flags, Mode::empty())?))
}

/// The file behind a handle; its name is looked for in `near` first, then on all of the volume. Where that takes long the file has no
/// known name: what it takes can be given back without one.
pub(crate) fn file_by_handle(volume: &Path, near: &Path, kind: i32, bytes: &[u8]) -> Result<Option<FileFound>, ViewError> {
    let failed = |e: io::Error| ViewError::new(format!("the file by its handle on {}", volume.display()), e);
    let place = || -> Result<Named, ViewError> { Named::find(volume)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into())) };
    let bytes = bytes.to_vec();
    let opened = place()?.look(move |volume| open_and_see(volume, kind, &bytes))?;
    match opened.map_err(failed)? {
        Some(found) if found.path.is_none() && found.links > 0 => Ok(Some(FileFound {
            path: search_in(place()?, near, found.seen)?,
            ..found
        })),
        found => Ok(found),
    }
}

/// With the name that the kernel knows, if any.
fn open_and_see(volume: &Path, kind: i32, bytes: &[u8]) -> io::Result<Option<FileFound>> {
    let Some(fd) = open_by_handle(&anchor(volume)?, kind, bytes)? else {
        return Ok(None);
    };
    let file = File::from(fd);
    let found = file.metadata()?;
    let (seen, links) = (volumes::seen(&found), found.nlink());
    let known = known_name(&file).filter(|path| links > 0 && is_at(path, &seen));
    Ok(Some(FileFound { seen, links, path: known }))
}

fn search_in(place: Named, near: &Path, file: FileSeen) -> Result<Option<PathBuf>, ViewError> {
    let near = near.to_owned();
    place.search(move |volume| [near.as_path(), volume].iter().find_map(|folder| search(folder, &file)))
}

/// What the kernel calls it, if it still knows.
fn known_name(fd: &File) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
}

fn is_at(path: &Path, file: &FileSeen) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (file.device, file.inode))
}

/// Looks through the folders below, nearest first, on this volume only and not without end.
fn search(below: &Path, file: &FileSeen) -> Option<PathBuf> {
    let (mut folders, mut left) = (VecDeque::from([below.to_owned()]), MOST_ENTRIES);
    while let Some(folder) = folders.pop_front() {
        if !fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir() && found.dev() == file.device) {
            continue;
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            left = left.checked_sub(1)?;
            if entry.ino() == file.inode && is_at(&entry.path(), file) {
                return Some(entry.path());
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push_back(entry.path());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    use super::*;

    fn found(folder: &Path, handle: &(i32, Vec<u8>)) -> Option<FileFound> {
        file_by_handle(folder, folder, handle.0, &handle.1).unwrap()
    }

    #[test]
    fn a_file_is_found_wherever_it_is_moved_until_it_is_really_gone() {
        let folder = std::env::temp_dir().join(format!("fracas-handle-{}", std::process::id()));
        fs::create_dir_all(folder.join("deep")).unwrap();
        let (here, there) = (folder.join("here"), folder.join("deep/there"));
        let file = File::create_new(&here).unwrap();
        let handle = handle_of(&file).unwrap();
        fs::rename(&here, &there).unwrap();
        fs::write(&here, "another").unwrap();
        if let Some(handle) = &handle {
            let moved = found(&folder, handle).unwrap();
            assert_eq!((moved.path.as_ref(), moved.links), (Some(&there), 1));
            assert_eq!(search(&folder, &volumes::seen(&file.metadata().unwrap())), Some(there.clone()));
            fs::remove_file(&there).unwrap();
            let open = found(&folder, handle).unwrap();
            assert_eq!((open.path, open.links), (None, 0));
            drop(file);
            assert_eq!(found(&folder, handle), None);
        } else {
            tests_notes::skip(&format!("the file system of {} gives no handles", folder.display()));
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_search_that_is_late_leaves_a_name_unknown_until_it_ends_and_holds_no_look_at_the_volume() {
        let folder = std::env::temp_dir().join(format!("fracas-search-{}", std::process::id()));
        fs::create_dir_all(folder.join("deep")).unwrap();
        let path = folder.join("deep/file");
        fs::write(&path, "").unwrap();
        let place = || Named::find(&folder).unwrap().unwrap();
        let seen = volumes::file(&path).unwrap().unwrap();
        let searched = || search_in(place(), &folder, seen).unwrap();
        assert_eq!(searched(), Some(path.clone()));

        let (end, hangs) = channel::<()>();
        let late = place().search(move |_| hangs.recv().ok());
        assert_eq!(late.unwrap(), None);
        assert_eq!(searched(), None, "a search waits behind one that is late");
        assert_eq!(volumes::file(&path).unwrap(), Some(seen));
        let file = File::open(&path).unwrap();
        if let Some(handle) = handle_of(&file).unwrap() {
            assert_eq!(found(&folder, &handle).map(|found| found.seen), Some(seen));
        }

        drop(end);
        let began = Instant::now();
        while searched().is_none() {
            assert!(began.elapsed() < Duration::from_secs(20), "names are not searched for again");
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
