//! The program that a process runs: its file, whether it is ours, and whether root has installed it; it runs none.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What the names of our program files begin with.
const OUR_NAMES: &str = "fracas";

/// As /proc/PID/exe shows it.
pub(crate) struct Program {
    /// None for kernel threads and what may not be read.
    pub(crate) exe: Option<String>,
    /// The same program file as we run.
    pub(crate) is_ours: bool,
    /// Only looked at for files that are named as our programs are.
    pub(crate) is_installed: bool,
}

impl Program {
    pub(crate) fn of(pid: u32) -> Self {
        let (exe, file) = (exe(pid), fs::metadata(format!("/proc/{pid}/exe")).ok());
        Self {
            is_ours: is_our_program(file.as_ref(), exe.as_deref()),
            is_installed: file
                .as_ref()
                .zip(exe.as_deref())
                .is_some_and(|(file, exe)| has_our_name(exe) && is_installed(file, Path::new(exe))),
            exe,
        }
    }
}

/// The program's path, also when its file has been replaced since it started. The kernel keeps it: no file system is asked.
pub(crate) fn exe(pid: u32) -> Option<String> {
    let target = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    // A path that is no UTF-8 must not pass for one that cannot be read.
    let target = target.to_string_lossy();
    Some(target.strip_suffix(" (deleted)").unwrap_or(&target).to_owned())
}

/// By the file itself, or by its path where an upgrade has replaced it since.
fn is_our_program(program: Option<&fs::Metadata>, exe: Option<&str>) -> bool {
    static OURS: OnceLock<Option<(fs::Metadata, PathBuf)>> = OnceLock::new();
    let ours = OURS.get_or_init(|| {
        let file = fs::metadata("/proc/self/exe").ok()?;
        Some((file, std::env::current_exe().ok()?))
    });
    let (Some((ours, path)), Some(program), Some(exe)) = (ours, program, exe) else {
        return false;
    };
    let at_our_path = Path::new(exe) == path && program.uid() == ours.uid();
    is_same_file(program, ours) || at_our_path && (was_removed(program, path) || is_there(program, path))
}

fn has_our_name(exe: &str) -> bool {
    exe.rsplit('/').next().is_some_and(|name| name.starts_with(OUR_NAMES))
}

/// A user may show any file under any path, in a mount namespace of their own; in ours they cannot change a folder that is closed to them.
fn is_installed(program: &fs::Metadata, path: &Path) -> bool {
    let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
    // From the root on, so that nothing below a folder of a user is looked up: what is mounted there may never answer. The program itself was
    // looked at before, and where it lies on a mount that hangs this may not have answered either.
    folders.reverse();
    is_owned_by_root(program)
        && path.is_absolute()
        && folders.into_iter().all(is_closed)
        && (was_removed(program, path) || is_there(program, path))
}

/// A group that may write it, such as staff in /usr/local/bin, was let in by root.
fn is_closed(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|folder| folder.is_dir() && folder.uid() == 0 && folder.mode() & 0o002 == 0)
}

fn is_same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// An upgrade has put another file in its place, or none. Of its path only the text is left, so it must be of the volume where that path leads
/// in our own mount namespace: the root of a container can remove any file of its own.
fn was_removed(program: &fs::Metadata, path: &Path) -> bool {
    let is_here = |folder: &Path| fs::symlink_metadata(folder).is_ok_and(|folder| folder.dev() == program.dev());
    program.nlink() == 0 && path.parent().is_some_and(is_here)
}

/// In our own mount namespace.
fn is_there(program: &fs::Metadata, path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| is_same_file(&file, program))
}

pub(crate) fn is_owned_by_root(file: &fs::Metadata) -> bool {
    let (by_group, by_others) = (file.mode() & 0o020 != 0, file.mode() & 0o002 != 0);
    file.uid() == 0 && !by_others && (!by_group || file.gid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_another_user_or_group_may_write_is_not_roots_alone() {
        if tests_notes::lacks_root("to give files to other users") {
            return;
        }
        let file = std::env::temp_dir().join(format!("fracas-owned-{}", std::process::id()));
        fs::write(&file, "").unwrap();
        for (uid, gid, mode, expected) in [
            (0, 0, 0o755, true),
            (0, 0, 0o775, true),
            (0, 1, 0o755, true),
            (0, 1, 0o775, false),
            (0, 0, 0o757, false),
            (1, 0, 0o755, false),
        ] {
            std::os::unix::fs::chown(&file, Some(uid), Some(gid)).unwrap();
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(is_owned_by_root(&fs::metadata(&file).unwrap()), expected, "{uid}:{gid} {mode:o}");
        }
        fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_file_of_roots_is_installed_only_where_our_mount_namespace_shows_it() {
        let sleep = fs::canonicalize("/bin/sleep").unwrap();
        let program = fs::metadata(&sleep).unwrap();
        assert!(is_installed(&program, &sleep));
        // As a mount in another namespace shows it: at a path where we have nothing, or another file.
        assert!(!is_installed(&program, Path::new("/usr/bin/fracas-not-installed")));
        assert!(!is_installed(&program, &fs::canonicalize("/etc/passwd").unwrap()));
        assert!(!is_installed(&program, Path::new("sleep")));
        // Users may link a file of root's into a folder that they may write; where it is of another volume, nothing can be linked.
        let folder = std::env::temp_dir().join(format!("fracas-open-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let link = folder.join("fracas");
        let linked = fs::hard_link(&sleep, &link).is_ok() && is_installed(&fs::metadata(&link).unwrap(), &link);
        fs::remove_dir_all(&folder).unwrap();
        assert!(!linked);
        assert!(has_our_name("/usr/bin/fracas") && has_our_name("/opt/x/fracas-controller"));
        assert!(!has_our_name("/usr/bin/sleep") && !has_our_name("/opt/fracas/sleep"));
    }

    #[test]
    fn a_file_counts_as_removed_only_on_the_volume_of_its_path() {
        let path = std::env::temp_dir().join(format!("fracas-removed-{}", std::process::id()));
        let file = fs::File::create(&path).unwrap();
        assert!(!was_removed(&file.metadata().unwrap(), &path));
        fs::remove_file(&path).unwrap();
        let removed = file.metadata().unwrap();
        assert!(was_removed(&removed, &path));
        // As one of a container would be: its path is ours, and its volume is another.
        assert!(!was_removed(&removed, Path::new("/proc/fracas")));
        assert!(!was_removed(&removed, &path.join("no-such-folder/fracas")));
    }
}
