//! A folder for root alone: made where it is missing, and refused where another user could change what is in it or put another in its place.

use std::ffi::CStr;
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use agent_privileges::Account;
use anyhow::{Context, bail, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// What the folder itself must have.
const PRIVATE: u32 = 0o700;
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// In a folder with this bit, nobody may rename or remove what belongs to another user.
const STICKY: u32 = 0o1000;

/// Makes the folder if it is missing, gives it mode 0700, and checks that it and every folder above it belong to us or to root.
pub fn prepare(folder: &Path) -> anyhow::Result<()> {
    let folder = std::path::absolute(folder)?;
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        bail!("{} cannot be a folder of the agent's own: give a folder below it", folder.display());
    };
    let made = DirBuilder::new().recursive(true).mode(0o755).create(parent);
    made.with_context(|| format!("make {}", parent.display()))?;
    let above = parent.canonicalize().with_context(|| format!("find {}", parent.display()))?;
    for one in parent.ancestors().chain(above.ancestors()) {
        check_above(one)?;
    }
    let path = above.join(name);
    match DirBuilder::new().mode(PRIVATE).create(&path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e).with_context(|| format!("make {}", path.display())),
        _ => {}
    }
    let found = fs::symlink_metadata(&path).with_context(|| format!("look at {}", path.display()))?;
    check_own(&path, &found)?;
    // Nothing is written where nothing has to change: a read-only disk refuses even that, and faults must be undone on it too.
    if found.mode() & 0o7777 != PRIVATE {
        let kept = fs::set_permissions(&path, Permissions::from_mode(PRIVATE));
        kept.with_context(|| format!("give {} mode 0700", path.display()))?;
    }
    Ok(())
}

/// A folder below one of ours that belongs to another user alone: made where it is missing, and handed over with the files in it
/// where it was root's.
pub fn hand_over(folder: &Path, account: Account) -> anyhow::Result<()> {
    let failed = |action: &str| format!("{action} {}", folder.display());
    match DirBuilder::new().mode(PRIVATE).create(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e).with_context(|| failed("make")),
        _ => {}
    }
    let opened = rustix::fs::open(
        folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let opened = File::from(opened.with_context(|| failed("open"))?);
    let found = opened.metadata().with_context(|| failed("look at"))?;
    // As its new owner could have left them, links are not followed, and of a file with two names neither is given away.
    if found.uid() != account.uid.as_raw() {
        for entry in rustix::fs::Dir::read_from(&opened).with_context(|| failed("list"))? {
            let entry = entry.with_context(|| failed("list"))?;
            give_file(&opened, entry.file_name(), account).with_context(|| failed("hand over a file of"))?;
        }
        fchown(&opened, Some(account.uid.as_raw()), Some(account.gid.as_raw())).with_context(|| failed("hand over"))?;
    }
    if found.mode() & 0o7777 != PRIVATE {
        opened
            .set_permissions(Permissions::from_mode(PRIVATE))
            .with_context(|| failed("give mode 0700 to"))?;
    }
    Ok(())
}

fn give_file(folder: &File, name: &CStr, account: Account) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // A link, or gone meanwhile.
        Err(Errno::LOOP | Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let found = file.metadata()?;
    if found.is_file() && found.nlink() == 1 {
        fchown(&file, Some(account.uid.as_raw()), Some(account.gid.as_raw()))?;
    }
    Ok(())
}

fn check_own(path: &Path, found: &Metadata) -> anyhow::Result<()> {
    ensure!(
        found.is_dir(),
        "{} is no folder, but must be one of the agent's own: move it away",
        path.display()
    );
    let us = rustix::process::geteuid().as_raw();
    ensure!(
        found.uid() == us,
        "{} belongs to user {}, and the agent runs as user {us}: whatever is in it may be forged; look at it, then remove it",
        path.display(),
        found.uid()
    );
    Ok(())
}

/// A folder above ours, or a link that leads there.
fn check_above(path: &Path) -> anyhow::Result<()> {
    let found = fs::symlink_metadata(path).with_context(|| format!("look at {}", path.display()))?;
    let us = rustix::process::geteuid().as_raw();
    ensure!(
        found.uid() == 0 || found.uid() == us,
        "{} belongs to user {}, who could replace the agent's folder below it: chown root:root {}",
        path.display(),
        found.uid(),
        path.display()
    );
    let open = found.mode() & WRITABLE_BY_OTHERS != 0 && found.mode() & STICKY == 0;
    ensure!(
        found.is_symlink() || !open,
        "{} may be written by others than its owner, who could replace the agent's folder below it: chmod go-w {}",
        path.display(),
        path.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_missing_folder_is_made_and_an_open_one_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("lib/agent");
        prepare(&own).unwrap();
        assert_eq!((mode(&own), mode(&dir.path().join("lib")) & 0o022), (PRIVATE, 0));
        fs::set_permissions(&own, Permissions::from_mode(0o755)).unwrap();
        prepare(&own).unwrap();
        assert_eq!(mode(&own), PRIVATE);
    }

    #[test]
    fn a_link_or_a_file_in_its_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (link, file) = (dir.path().join("link"), dir.path().join("file"));
        symlink(dir.path(), &link).unwrap();
        fs::write(&file, "").unwrap();
        for path in [link, file] {
            let error = prepare(&path).unwrap_err().to_string();
            assert!(error.contains("is no folder"), "{error}");
        }
    }

    #[test]
    fn what_others_may_write_above_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
        let error = prepare(&shared.join("agent")).unwrap_err().to_string();
        assert!(error.contains("chmod go-w") && error.contains("shared"), "{error}");
        assert!(!shared.join("agent").exists());
        // As /tmp is.
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        prepare(&shared.join("agent")).unwrap();
    }

    #[test]
    fn folders_of_another_user_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (above, own) = (dir.path().join("above"), dir.path().join("own"));
        fs::create_dir(&above).unwrap();
        fs::create_dir(&own).unwrap();
        if tests_notes::lacks_root("to give folders to another user") {
            return;
        }
        chown(&above, Some(1), None).and(chown(&own, Some(1), None)).unwrap();
        let error = prepare(&above.join("agent")).unwrap_err().to_string();
        assert!(error.contains("chown root:root"), "{error}");
        let error = prepare(&own).unwrap_err().to_string();
        assert!(error.contains("may be forged"), "{error}");
    }
}
