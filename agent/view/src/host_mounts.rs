//! What is mounted for the host's first process: a service may be shown the same volume read-only.

use std::path::{Path, PathBuf};

use crate::mounts::unescape;
use crate::text;

/// The mount on which a path lies, as one process sees it.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    point: PathBuf,
    /// As mountinfo writes it, `8:1`.
    device: String,
    read_only: bool,
}

/// Whether the first process may write where this process may not. False also where that cannot be read, or where it sees another volume there.
pub(crate) fn may_write(path: &Path) -> bool {
    let listed = |file: &str| text::read(file).unwrap_or_default();
    differ(&listed("/proc/thread-self/mountinfo"), &listed("/proc/1/mountinfo"), path)
}

fn differ(here: &str, first: &str, path: &Path) -> bool {
    match (shown(here, path), shown(first, path)) {
        (Some(here), Some(first)) => here.device == first.device && here.read_only && !first.read_only,
        _ => false,
    }
}

/// The deepest mount above a path; of several at one point the last covers the others.
fn shown(listed: &str, path: &Path) -> Option<Shown> {
    let above = listed.lines().filter_map(parse).filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.components().count())
}

/// Both the mount and its file system have options.
fn parse(line: &str) -> Option<Shown> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let device = mount.next()?.to_owned();
    let (point, options) = (mount.nth(1)?, mount.next()?);
    let of_file_system = file_system.splitn(3, ' ').nth(2).unwrap_or_default();
    Some(Shown {
        point: PathBuf::from(unescape(point)),
        device,
        read_only: [options, of_file_system]
            .iter()
            .any(|options| options.split(',').any(|option| option == "ro")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
30 22 8:1 / /boot rw,relatime shared:9 - ext4 /dev/sda1 rw
31 22 8:3 / /srv/read\\040only ro,relatime shared:8 - ext4 /dev/sda3 rw
32 22 8:4 / /mnt rw,relatime - ext4 /dev/sda4 ro
";

    #[test]
    fn what_a_service_is_shown_read_only_is_told_from_what_the_host_has_so() {
        let service = FIRST
            .replace("/boot rw", "/boot ro")
            .replace("/srv/read\\040only ro", "/srv/read\\040only ro,nosuid")
            + "40 22 8:2 /etc /etc ro,relatime shared:90 - ext4 /dev/sda2 rw\n";
        for (path, expected) in [
            ("/etc", true),
            ("/etc/fracas", true),
            ("/boot", true),
            ("/var", false),
            ("/srv/read only", false),
            ("/mnt", false),
        ] {
            assert_eq!(differ(&service, FIRST, Path::new(path)), expected, "{path}");
        }
        // Where the first process cannot be looked at, and where it sees another volume.
        assert!(!differ(&service, "", Path::new("/etc")));
        let other = FIRST.replace("8:1 /", "8:9 /");
        assert!(!differ(&service, &other, Path::new("/boot")));
    }
}
