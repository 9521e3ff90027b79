//! A file that holds its old text or its new one, never a part of either; it makes no folder and replaces no device.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use proto_model::id::InstanceId;

use crate::failure::Failure;

/// Puts the text in the place of whatever the file held, at once where the folder allows it.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    // Through a link, to the file that it names.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let whole = if is_ordinary(&target) { moved(&target, text) } else { None };
    // A pipe is written to; and where the folder takes no new file, or the file is a mount of its own, there is only this way.
    whole.map_or_else(|| fs::write(&target, text), Ok).map_err(|error| {
        let place = path.display();
        Failure::local(format!("cannot write {place}: {error}"))
    })
}

/// Whether it is a file, or could become one: not a pipe, a device or a folder.
pub fn is_ordinary(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |found| found.is_file())
}

fn moved(target: &Path, text: &str) -> Option<()> {
    let mut hidden = OsStr::new(".").to_owned();
    hidden.push(target.file_name()?);
    hidden.push(format!(".{}", InstanceId::generate()));
    let draft = target.with_file_name(hidden);
    let moved = fs::write(&draft, text).and_then(|()| fs::rename(&draft, target));
    if moved.is_err() {
        // Nothing is there when it could not even be made.
        let _ = fs::remove_file(&draft);
    }
    moved.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, symlink};

    #[test]
    fn a_reader_of_the_old_file_never_sees_a_part_of_the_new_one() {
        use std::io::Read;
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("r.xml"), folder.path().join("link.xml"));
        fs::write(&path, "old").unwrap();
        symlink(&path, &link).unwrap();
        let mut reader = fs::File::open(&path).unwrap();
        replace(&link, "new").unwrap();
        let mut seen = String::new();
        reader.read_to_string(&mut seen).unwrap();
        assert_eq!((seen.as_str(), fs::read_to_string(&path).unwrap().as_str()), ("old", "new"));
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn a_device_stays_one_and_a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let null = folder.path().join("null");
        symlink("/dev/null", &null).unwrap();
        replace(&null, "text").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device() && null.is_symlink());
        let failure = replace(&folder.path().join("none/r.xml"), "text").unwrap_err();
        assert!(failure.error.message.contains("none/r.xml"), "{failure:?}");
    }
}
