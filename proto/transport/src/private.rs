//! Files of secrets: for their owner alone, whole or not at all, and on the disk when they are said to be. It never reads one.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
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
    fn what_is_there_is_not_overwritten_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        create_private(&path).unwrap().fill(b"first").unwrap();
        assert!(create_private(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }
}
