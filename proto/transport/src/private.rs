//! Files of secrets: for their owner alone, whole or not at all, and on the disk when they are said to be. It never reads one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long another process may keep the files of a folder from being changed.
const TURN_WITHIN: Duration = Duration::from_secs(10);
const TURN_AGAIN: Duration = Duration::from_millis(10);

/// Puts what `change` makes of the file's text in its place; no file is an empty one. One process at a time, so that no change is lost.
pub(crate) fn change_private(path: &Path, change: impl FnOnce(String) -> io::Result<String>) -> io::Result<()> {
    let _turn = turn(folder_of(path))?;
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read?,
    };
    replace_private(path, change(text)?.as_bytes())
}

/// The folder, locked until it is dropped.
fn turn(folder: &Path) -> io::Result<File> {
    let (lock, until) = (File::open(folder)?, Instant::now() + TURN_WITHIN);
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(TURN_AGAIN),
            Err(TryLockError::WouldBlock) => {
                let what = format!(
                    "another process has locked {} for {} s; end it and try again",
                    folder.display(),
                    TURN_WITHIN.as_secs()
                );
                return Err(io::Error::new(ErrorKind::TimedOut, what));
            }
        }
    }
}

/// Puts the file in the place of the one before, in one step; mode 0600.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = beside(path);
    // A draft of an earlier crash may have other permissions.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create_private(&draft)?.fill(bytes)?;
    std::fs::rename(&draft, path)?;
    sync_folder_of(path)
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

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private_also_over_a_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        std::fs::write(beside(&path), "half of an older").unwrap();
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
}
