//! Systemd units as files tell them: which is an alias of another, and which is masked; no service manager is asked.

use std::fs;
use std::path::{Path, PathBuf};

/// Where units lie, those that come first hide the others (systemd.unit(5)).
const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Aliases of aliases that are followed.
const MOST_STEPS: usize = 4;

/// What files say of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnitState {
    /// Another unit may start it, whether it is enabled or not.
    Startable,
    Masked,
    /// There is no such unit.
    Absent,
}

pub(crate) fn state_of(unit: &str) -> UnitState {
    state_in(&FOLDERS.map(Path::new), unit)
}

fn state_in(folders: &[&Path], unit: &str) -> UnitState {
    match first(folders, unit) {
        None => UnitState::Absent,
        Some(file) if is_mask(&file) => UnitState::Masked,
        Some(_) => UnitState::Startable,
    }
}

/// A link to /dev/null, or a file without a byte (systemd.unit(5)).
fn is_mask(file: &Path) -> bool {
    let is_empty = |file: fs::Metadata| file.is_file() && file.len() == 0;
    fs::read_link(file).is_ok_and(|target| target == Path::new("/dev/null")) || fs::metadata(file).is_ok_and(is_empty)
}

/// The file that counts of those of this name.
fn first(folders: &[&Path], name: &str) -> Option<PathBuf> {
    let mut files = folders.iter().map(|folder| folder.join(name));
    files.find(|file| fs::symlink_metadata(file).is_ok())
}

/// The unit that this one is an alias of.
pub(crate) fn alias_of(unit: &str) -> Option<String> {
    alias_in(&FOLDERS.map(Path::new), unit)
}

fn alias_in(folders: &[&Path], unit: &str) -> Option<String> {
    let mut name = unit.to_owned();
    for _ in 0..MOST_STEPS {
        match target(folders, &name) {
            Some(next) => name = next,
            None => break,
        }
    }
    (name != unit).then_some(name)
}

/// A link to a unit of another name; one to nothing is a mask, and one to the same name only says where the file is.
fn target(folders: &[&Path], name: &str) -> Option<String> {
    if name.contains('/') {
        return None;
    }
    let (_, suffix) = name.rsplit_once('.')?;
    let target = fs::read_link(first(folders, name)?).ok()?;
    let target = target.file_name()?.to_str()?;
    let is_unit = target.rsplit_once('.').is_some_and(|(_, other)| other == suffix);
    (is_unit && target != name).then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_unit_is_masked_by_a_link_to_nothing_and_by_an_empty_file() {
        let root = std::env::temp_dir().join(format!("fracas-masked-{}", std::process::id()));
        let (etc, lib) = (root.join("etc"), root.join("lib"));
        for folder in [&etc, &lib] {
            fs::create_dir_all(folder).unwrap();
        }
        let state = || state_in(&[&etc, &lib, &root.join("nowhere")], "a.path");
        assert_eq!(state(), UnitState::Absent);
        fs::write(lib.join("a.path"), "[Path]\n").unwrap();
        fs::write(etc.join("a.path.d"), "").unwrap();
        assert_eq!(state(), UnitState::Startable);
        fs::write(etc.join("a.path"), "").unwrap();
        assert_eq!(state(), UnitState::Masked);
        fs::remove_file(etc.join("a.path")).unwrap();
        symlink(lib.join("a.path"), etc.join("a.path")).unwrap();
        assert_eq!(state(), UnitState::Startable);
        fs::remove_file(etc.join("a.path")).unwrap();
        symlink("/dev/null", etc.join("a.path")).unwrap();
        assert_eq!(state(), UnitState::Masked);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_link_to_another_unit_is_an_alias_and_nothing_else_is() {
        let root = std::env::temp_dir().join(format!("fracas-units-{}", std::process::id()));
        let (etc, lib) = (root.join("etc"), root.join("lib"));
        for folder in [&etc, &lib] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(lib.join("redis-server.service"), "").unwrap();
        symlink(lib.join("redis-server.service"), etc.join("redis.service")).unwrap();
        symlink("redis.service", etc.join("cache.service")).unwrap();
        symlink("/dev/null", etc.join("masked.service")).unwrap();
        symlink(lib.join("redis-server.service"), etc.join("redis-server.service")).unwrap();
        symlink("loop-b.service", etc.join("loop-a.service")).unwrap();
        symlink("loop-a.service", etc.join("loop-b.service")).unwrap();
        let of = |unit: &str| alias_in(&[&etc, &lib], unit);
        assert_eq!(of("redis.service").as_deref(), Some("redis-server.service"));
        assert_eq!(of("cache.service").as_deref(), Some("redis-server.service"));
        for none in [
            "redis-server.service",
            "masked.service",
            "absent.service",
            "../x.service",
            "redis",
            "loop-a.service",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
        fs::remove_dir_all(&root).unwrap();
    }
}
