//! Ballast files on this kernel: made empty, grown by allocation, emptied and removed; no other file than the one meant is changed.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use agent_view::{anchor, handle_of, open_by_handle, settle};
use proto_model::id::InjectionId;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, fallocate, openat, statat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// What a file system calls one file by, whatever its path: never given to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHandle {
    pub kind: i32,
    #[serde(with = "hex")]
    pub bytes: Vec<u8>,
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
        bytes.ok_or_else(|| de::Error::custom(format!("{text:?} is not hexadecimal")))
    }
}

/// A file that does nothing but use a volume's space, named by its injection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballast {
    pub path: PathBuf,
    /// Where its volume is mounted: with nothing mounted there, nobody can say that it is gone.
    pub mount_point: PathBuf,
    /// The volume, as `stat` numbers it; good for one boot.
    pub device: u64,
    /// The volume's own number: by it the volume is known when it was unmounted and is back from another device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_id: Option<u64>,
    /// Not known before it was made; as long as that is not recorded, it is empty.
    pub inode: Option<u64>,
    /// It does not outlive a reboot, nor its mount.
    pub volatile: bool,
    /// By which it is found wherever somebody moves it; none where its file system gives none, and before it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<FileHandle>,
}

impl Ballast {
    const PREFIX: &str = ".fracas-";

    /// The path of an injection's ballast in a folder.
    pub fn path_in(folder: &Path, injection: &InjectionId) -> PathBuf {
        folder.join(format!("{}{injection}", Self::PREFIX))
    }

    /// The injection after which the file is named; none when the name is not one of ours.
    pub fn injection(&self) -> Option<InjectionId> {
        let name = self.path.file_name()?.to_str()?;
        InjectionId::parse(name.strip_prefix(Self::PREFIX)?).ok()
    }
}

/// How a ballast file is known once it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub inode: u64,
    pub handle: Option<FileHandle>,
}

/// A link in its place is not followed, and a pipe there keeps nobody waiting.
const CAREFULLY: OFlags = OFlags::WRONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A name in a folder that is held open, so that nobody can put another folder in its place.
struct Place<'a> {
    folder: OwnedFd,
    name: &'a OsStr,
}

impl<'a> Place<'a> {
    /// Every part of the path is opened by itself: whoever named the folder has followed its links, and a later one leads nowhere.
    fn of(path: &'a Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent().filter(|_| path.is_absolute()), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut folder = rustix::fs::open("/", FOLDER, Mode::empty())?;
        for part in parent.components() {
            match part {
                Component::RootDir => {}
                Component::Normal(part) => folder = openat(&folder, part, FOLDER, Mode::empty())?,
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            }
        }
        Ok(Self { folder, name })
    }

    /// `None` when its folder is not there any more, or a link is.
    fn still_there(path: &'a Path) -> io::Result<Option<Self>> {
        match Self::of(path) {
            Err(e) if is_absent(&e) => Ok(None),
            place => place.map(Some),
        }
    }

    fn inode(&self) -> io::Result<Option<u64>> {
        match statat(&self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found.st_ino)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn open(&self, more: OFlags) -> io::Result<File> {
        let opened = openat(&self.folder, self.name, CAREFULLY | more, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(opened))
    }

    /// Only what has this inode; false when something else has the name, or nothing.
    fn unlink(&self, inode: u64) -> io::Result<bool> {
        if self.inode()? != Some(inode) {
            return Ok(false);
        }
        match unlinkat(&self.folder, self.name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

/// Makes it, empty. Fails when anything is there already, or the folder is not on this device.
pub(crate) fn make(path: &Path, device: u64) -> io::Result<Made> {
    let place = Place::of(path)?;
    let folder = rustix::fs::fstat(&place.folder)?;
    if folder.st_dev != device {
        return Err(io::Error::other("its folder is on another volume now"));
    }
    let file = place.open(OFlags::CREATE | OFlags::EXCL)?;
    let handle = handle_of(&file)?.map(|(kind, bytes)| FileHandle { kind, bytes });
    Ok(Made {
        inode: file.metadata()?.ino(),
        handle,
    })
}

/// For growing: an existing plain file of ours that has no other name.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = Place::of(path)?.open(OFlags::empty())?;
    let found = file.metadata()?;
    let ours = found.is_file() && found.nlink() == 1 && found.uid() == rustix::process::geteuid().as_raw();
    match ours {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file of ours")),
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
    let Some(place) = Place::still_there(&ballast.path)? else {
        return Ok(false);
    };
    // The device was compared by whoever asks: its number is not the same after a reboot.
    let found = place.inode()?;
    let Some(inode) = found.filter(|found| ballast.inode.is_none_or(|inode| inode == *found)) else {
        return Ok(false);
    };
    match place.open(OFlags::empty()) {
        Ok(file) if file.metadata()?.ino() == inode => file.set_len(0)?,
        Ok(_) => return Ok(false),
        Err(e) if is_absent(&e) => return Ok(false),
        Err(e) => return Err(e),
    }
    let removed = place.unlink(inode)?;
    // Its space is free for whoever looks, not only when the file system gets round to counting.
    if let Some(folder) = ballast.path.parent() {
        settle(folder);
    }
    Ok(removed)
}

/// The same wherever it is on the volume of a folder; `name` is one that it was found by.
pub(crate) fn remove_moved(ballast: &Ballast, volume: &Path, name: Option<&Path>) -> io::Result<bool> {
    let Some(handle) = &ballast.handle else { return Ok(false) };
    let Some(fd) = open_by_handle(&anchor(volume)?, handle.kind, &handle.bytes)? else {
        return Ok(false);
    };
    // A descriptor that only names a file is opened for writing by its place in /proc, which is no path of its own.
    let held = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let found = std::fs::metadata(&held)?;
    if !found.is_file() || Some(found.ino()) != ballast.inode {
        return Ok(false);
    }
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
    OpenOptions::new().write(true).custom_flags(flags).open(&held)?.set_len(0)?;
    if let Some(place) = name.map(Place::still_there).transpose()?.flatten() {
        place.unlink(found.ino())?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn ballast(folder: &TempDir) -> Ballast {
        let path = Ballast::path_in(folder.path(), &InjectionId::generate());
        let device = std::fs::metadata(folder.path()).unwrap().dev();
        let made = make(&path, device).unwrap();
        Ballast {
            device,
            volume_id: None,
            mount_point: "/".into(),
            inode: Some(made.inode),
            volatile: false,
            handle: made.handle,
            path,
        }
    }

    #[test]
    fn what_is_grown_is_taken_and_given_back_even_from_whoever_has_it_open() {
        let folder = TempDir::new().unwrap();
        let ballast = ballast(&folder);
        assert!(make(&ballast.path, ballast.device).is_err(), "made twice");
        assert!(
            make(&ballast.path.with_extension("x"), ballast.device + 1).is_err(),
            "made elsewhere"
        );
        if !grow(&ballast, 3 << 20).unwrap() {
            tests_notes::skip(&format!("the file system of {} cannot allocate", folder.path().display()));
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

    #[test]
    fn a_folder_that_was_swapped_for_a_link_leads_nowhere() {
        let folder = TempDir::new().unwrap();
        let (inner, kept) = (folder.path().join("inner"), folder.path().join("kept"));
        std::fs::create_dir(&inner).unwrap();
        let device = std::fs::metadata(&inner).unwrap().dev();
        let path = Ballast::path_in(&inner, &InjectionId::generate());
        std::fs::rename(&inner, &kept).unwrap();
        symlink(&kept, &inner).unwrap();
        assert!(make(&path, device).is_err());
        let there = kept.join(path.file_name().unwrap());
        std::fs::write(&there, "data").unwrap();
        assert!(open(&path).is_err());
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "data");
    }

    #[test]
    fn one_that_was_moved_is_emptied_and_removed_by_its_handle_alone() {
        let folder = TempDir::new().unwrap();
        let ballast = ballast(&folder);
        if ballast.handle.is_none() {
            tests_notes::skip(&format!("the file system of {} gives no handles", folder.path().display()));
            return;
        }
        let (moved, again) = (folder.path().join("moved"), folder.path().join("again"));
        std::fs::write(&ballast.path, vec![1; 1 << 20]).unwrap();
        std::fs::rename(&ballast.path, &moved).unwrap();
        std::fs::hard_link(&moved, &again).unwrap();
        std::fs::write(&ballast.path, "data").unwrap();
        assert!(!remove(&ballast).unwrap());
        assert!(remove_moved(&ballast, folder.path(), Some(&ballast.path)).unwrap());
        assert_eq!(std::fs::metadata(&moved).unwrap().len(), 0);
        assert!(remove_moved(&ballast, folder.path(), Some(&moved)).unwrap());
        assert!(!moved.exists() && again.exists());
        assert!(remove_moved(&ballast, folder.path(), Some(&again)).unwrap());
        assert!(!remove_moved(&ballast, folder.path(), None).unwrap());
        assert_eq!(std::fs::read_to_string(&ballast.path).unwrap(), "data");
    }

    #[test]
    fn one_that_was_moved_is_emptied_while_its_name_is_not_known() {
        let folder = TempDir::new().unwrap();
        let ballast = ballast(&folder);
        if ballast.handle.is_none() {
            tests_notes::skip(&format!("the file system of {} gives no handles", folder.path().display()));
            return;
        }
        let moved = folder.path().join("moved");
        std::fs::write(&ballast.path, vec![1; 1 << 20]).unwrap();
        std::fs::rename(&ballast.path, &moved).unwrap();
        assert!(remove_moved(&ballast, folder.path(), None).unwrap());
        assert_eq!(std::fs::metadata(&moved).unwrap().len(), 0);
    }

    #[test]
    fn a_handle_is_read_as_it_is_written_and_older_journals_have_none() {
        let old = r#"{"path":"/x/.fracas-1","mount_point":"/","device":7,"inode":5,"volatile":false}"#;
        let ballast: Ballast = serde_json::from_str(old).unwrap();
        assert_eq!(ballast.handle, None);
        assert_eq!(serde_json::to_string(&ballast).unwrap(), old);
        let handle = FileHandle {
            kind: 1,
            bytes: vec![0, 0xab, 0x10],
        };
        let written = serde_json::to_string(&handle).unwrap();
        assert_eq!(written, r#"{"kind":1,"bytes":"00ab10"}"#);
        assert_eq!(serde_json::from_str::<FileHandle>(&written).unwrap(), handle);
        for wrong in ["0", "0g", "aµ"] {
            assert!(
                serde_json::from_str::<FileHandle>(&written.replace("00ab10", wrong)).is_err(),
                "{wrong}"
            );
        }
    }
}
