//! Names of systemd units as files tell them: which is an alias of another; no service manager is asked.

use std::fs;
use std::path::Path;

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
    let file = folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|file| fs::symlink_metadata(file).is_ok())?;
    let target = fs::read_link(file).ok()?;
    let target = target.file_name()?.to_str()?;
    let is_unit = target.rsplit_once('.').is_some_and(|(_, other)| other == suffix);
    (is_unit && target != name).then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

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
