//! Ballast files on this kernel: made empty, grown by allocation, emptied and removed; no other file than the one meant is changed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use agent_journal::Ballast;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, fallocate, openat, statat, unlinkat};
use rustix::io::Errno;

/// A link in its place is not followed, and a pipe there keeps nobody waiting.
const CAREFULLY: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;

/// Makes it, empty; its inode. Fails when anything is there already.
pub(crate) fn make(path: &Path) -> io::Result<u64> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(CAREFULLY)
        .open(path)?;
    Ok(file.metadata()?.ino())
}

/// For growing: an existing plain file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).custom_flags(CAREFULLY).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file")),
    }
}

/// Where the last bytes of a volume are asked for, the file system may need so much of them to remember whose they are.
const KEPT_BACK: [u64; 5] = [0, 64 << 10, 256 << 10, 512 << 10, 1_000 << 10];

/// Gives it space from `held` up to `bytes` without writing, or a little less on a volume that is full then; false where
/// the file system cannot.
pub(crate) fn allocate(file: impl AsFd, held: u64, bytes: u64) -> io::Result<bool> {
    let mut result = Ok(true);
    for bytes in KEPT_BACK
        .map(|kept| bytes.saturating_sub(kept))
        .into_iter()
        .filter(|bytes| *bytes > held)
    {
        result = allocate_all(&file, held, bytes);
        if !matches!(&result, Err(e) if e.kind() == io::ErrorKind::StorageFull) {
            break;
        }
    }
    result
}

fn allocate_all(file: impl AsFd, held: u64, bytes: u64) -> io::Result<bool> {
    loop {
        match fallocate(&file, FallocateFlags::empty(), held, bytes - held) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Grows the very file that was made.
pub(crate) fn grow(ballast: &Ballast, bytes: u64) -> io::Result<bool> {
    let file = open(&ballast.path)?;
    let found = file.metadata()?;
    if found.dev() != ballast.device || Some(found.ino()) != ballast.inode {
        return Err(io::Error::new(io::ErrorKind::NotFound, "another file is in its place"));
    }
    allocate(&file, found.len(), bytes)
}

/// Empties it first: whoever has it open keeps none of its space, and a full volume needs none for that.
/// False when it is not there, or another file is.
pub(crate) fn remove(ballast: &Ballast) -> io::Result<bool> {
    let (Some(folder), Some(name)) = (ballast.path.parent(), ballast.path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = match rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
        opened => opened?,
    };
    let found = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        found => found?,
    };
    // The device was compared by whoever asks: its number is not the same after a reboot.
    if ballast.inode.is_some_and(|inode| inode != found.st_ino) {
        return Ok(false);
    }
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(&folder, name, flags, Mode::empty()).map(File::from) {
        Ok(file) if file.metadata()?.ino() == found.st_ino => file.set_len(0)?,
        Ok(_) => return Ok(false),
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    match unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proto_model::id::InjectionId;
    use tempfile::TempDir;

    use super::*;

    fn ballast(folder: &TempDir) -> Ballast {
        let path = Ballast::path_in(folder.path(), &InjectionId::generate());
        let inode = make(&path).unwrap();
        Ballast {
            device: std::fs::metadata(&path).unwrap().dev(),
            mount_point: "/".into(),
            inode: Some(inode),
            volatile: false,
            path,
        }
    }

    #[test]
    fn what_is_grown_is_taken_and_given_back_even_from_whoever_has_it_open() {
        let folder = TempDir::new().unwrap();
        let ballast = ballast(&folder);
        assert!(make(&ballast.path).is_err(), "made twice");
        if !grow(&ballast, 3 << 20).unwrap() {
            println!("skipped: the file system of {} cannot allocate", folder.path().display());
            return;
        }
        let open = File::open(&ballast.path).unwrap();
        assert_eq!(open.metadata().unwrap().blocks() * 512, 3 << 20);
        assert!(remove(&ballast).unwrap());
        assert_eq!(open.metadata().unwrap().blocks(), 0);
        assert!(!remove(&ballast).unwrap());
    }

    #[test]
    fn another_file_in_its_place_is_left_alone() {
        let folder = TempDir::new().unwrap();
        let ballast = ballast(&folder);
        let (kept, precious) = (folder.path().join("kept"), folder.path().join("precious"));
        std::fs::rename(&ballast.path, &kept).unwrap();
        std::fs::write(&precious, "data").unwrap();
        for replace in [&(|| symlink(&precious, &ballast.path)) as &dyn Fn() -> io::Result<()>, &|| {
            std::fs::hard_link(&precious, &ballast.path)
        }] {
            replace().unwrap();
            assert!(!remove(&ballast).unwrap());
            assert!(grow(&ballast, 1 << 20).is_err());
            assert_eq!(std::fs::read_to_string(&precious).unwrap(), "data");
            std::fs::remove_file(&ballast.path).unwrap();
        }
    }
}
