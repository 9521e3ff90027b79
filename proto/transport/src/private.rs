//! Files of secrets: for the owner of their folder alone, whole or not at all, and on the disk when they are said to be.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

/// How long another process may keep the files of a folder from being changed.
const TURN_WITHIN: Duration = Duration::from_secs(10);
const TURN_AGAIN: Duration = Duration::from_millis(10);
const ROOT: u32 = 0;

/// Puts what `change` makes of the file's text in its place; no file is an empty one. One process at a time, so that no change is lost.
pub(crate) fn change_private(path: &Path, change: impl FnOnce(String) -> io::Result<String>) -> io::Result<()> {
    let (folder, name) = Folder::of(path)?;
    folder.lock()?;
    let text = folder.read(name)?;
    folder.replace(name, change(text)?.as_bytes())
}

/// Puts the file in the place of the one before, in one step; mode 0600. In a folder of another user, root makes it that user's.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (folder, name) = Folder::of(path)?;
    folder.replace(name, bytes)
}

/// A folder that is opened once: its owner may be another user, who could let its path lead elsewhere between two steps of root.
struct Folder {
    opened: File,
    found: Metadata,
    shown: PathBuf,
}

impl Folder {
    /// The folder of this path, and the name in it.
    fn of(path: &Path) -> io::Result<(Self, &OsStr)> {
        let name = path.file_name().ok_or_else(|| {
            let what = format!("{} names no file", path.display());
            io::Error::new(ErrorKind::InvalidInput, what)
        })?;
        let shown = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let shown = shown.unwrap_or(Path::new(".")).to_owned();
        let opened = File::open(&shown)?;
        let found = opened.metadata()?;
        Ok((Self { opened, found, shown }, name))
    }

    /// Until it is dropped.
    fn lock(&self) -> io::Result<()> {
        let until = Instant::now() + TURN_WITHIN;
        loop {
            match self.opened.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(TURN_AGAIN),
                Err(TryLockError::WouldBlock) => {
                    let what = format!(
                        "another process has locked {} for {} s; end it and try again",
                        self.shown.display(),
                        TURN_WITHIN.as_secs()
                    );
                    return Err(io::Error::new(ErrorKind::TimedOut, what));
                }
            }
        }
    }

    /// The text of a file of this folder. What the folder's owner cannot read by itself is not read for it: it is about to get the text.
    fn read(&self, name: &OsStr) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match openat(&self.opened, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(String::new()),
            Err(Errno::LOOP) => return Err(self.unfit(name, "it is a symbolic link")),
            Err(error) => return Err(error.into()),
        };
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(self.unfit(name, "it is no plain file"));
        }
        if found.uid() != self.found.uid() && found.nlink() > 1 {
            return Err(self.unfit(name, "it belongs to another user and has more than one name"));
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    }

    fn unfit(&self, name: &OsStr, why: &str) -> io::Error {
        let path = self.shown.join(name);
        let what = format!("{}: {why}; put a copy of the file in its place, or remove it", path.display());
        io::Error::new(ErrorKind::InvalidData, what)
    }

    fn replace(&self, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        let draft = beside(name);
        // A draft of an earlier crash may have other permissions.
        match unlinkat(&self.opened, &draft, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => return Err(error.into()),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&self.opened, &draft, flags, Mode::RUSR | Mode::WUSR)?);
        self.hand_over(&file)?;
        NewFile(file).fill(bytes)?;
        renameat(&self.opened, &draft, &self.opened, name)?;
        self.opened.sync_all()
    }

    /// What root makes in a folder of another user is that user's: the program that runs as that user could not read it otherwise.
    fn hand_over(&self, made: &File) -> io::Result<()> {
        if made.metadata()?.uid() == ROOT && self.found.uid() != ROOT {
            fchown(made, Some(self.found.uid()), Some(self.found.gid()))?;
        }
        Ok(())
    }
}

/// Makes a new file, mode 0600; one that is there already is an error and stays as it is.
pub fn create_private(path: &Path) -> io::Result<NewFile> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(NewFile(file))
}

/// A file that is made and still empty.
pub struct NewFile(File);

impl NewFile {
    /// Its whole content; on the disk when this returns.
    pub fn fill(mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.sync_all()
    }
}

fn beside(name: &OsStr) -> OsString {
    let mut draft = name.to_owned();
    draft.push(".new");
    draft
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private_also_over_a_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        std::fs::write(folder.path().join("key.pem.new"), "half of an older").unwrap();
        for text in ["one", "two"] {
            replace_private(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn of_changes_at_the_same_time_none_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        change_private(&path, |text| Ok(text + "line\n")).unwrap();
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 80);
    }

    #[test]
    fn what_is_there_is_not_overwritten_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        create_private(&path).unwrap().fill(b"first").unwrap();
        assert!(create_private(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }
    #[test]
    fn what_root_writes_in_a_folder_of_another_user_is_that_users() {
        if tests_notes::lacks_root("to give a folder to another user") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (list, key) = (folder.path().join("list"), folder.path().join("key.pem"));
        // As an earlier version left it.
        std::fs::write(&list, "before\n").unwrap();
        chown(folder.path(), Some(1), Some(2)).unwrap();
        change_private(&list, |text| Ok(text + "line\n")).unwrap();
        replace_private(&key, b"secret").unwrap();
        for path in [&list, &key] {
            let found = std::fs::metadata(path).unwrap();
            assert_eq!(
                (found.uid(), found.gid(), found.mode() & 0o777),
                (1, 2, 0o600),
                "{}",
                path.display()
            );
        }
        assert_eq!(std::fs::read_to_string(&list).unwrap(), "before\nline\n");
        // In a folder of root's own nothing is given away.
        let own = tempfile::tempdir().unwrap();
        replace_private(&own.path().join("key.pem"), b"secret").unwrap();
        assert_eq!(std::fs::metadata(own.path().join("key.pem")).unwrap().uid(), ROOT);
    }

    #[test]
    fn what_another_user_could_have_linked_is_not_read_for_that_user() {
        if tests_notes::lacks_root("to give a folder to another user") {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let (folder, secret) = (place.path().join("folder"), place.path().join("secret"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&secret, "of root alone").unwrap();
        let (soft, hard) = (folder.join("soft"), folder.join("hard"));
        symlink(&secret, &soft).unwrap();
        std::fs::hard_link(&secret, &hard).unwrap();
        chown(&folder, Some(1), Some(2)).unwrap();
        for (path, why) in [(&soft, "symbolic link"), (&hard, "more than one name")] {
            let error = change_private(path, Ok).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("folder"), "{error}");
        }
        assert_eq!(std::fs::metadata(&secret).unwrap().uid(), ROOT);
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of root alone");
    }
}
