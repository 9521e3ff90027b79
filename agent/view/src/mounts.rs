//! What is mounted here, as the kernel lists it for this process; it mounts nothing.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::error::ViewError;
use crate::text;

/// File systems whose data comes over the network.
const NETWORK_TYPES: [&str; 9] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "afs", "9p", "glusterfs", "fuse.glusterfs"];

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// As `stat` of what is mounted tells it.
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) point: PathBuf,
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) options: String,
}

pub(crate) fn mounts() -> Result<Vec<Mount>, ViewError> {
    // What the process's first thread sees may be another namespace.
    let listed = text::read("/proc/thread-self/mountinfo")?;
    Ok(listed.lines().filter_map(parse).collect())
}

/// The deepest mount above a path; of several at one point the last covers the others.
pub(crate) fn mount_of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.components().count())
}

/// Addresses that back mounts over the network.
pub(crate) fn network_addresses(mounts: &[Mount]) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = mounts
        .iter()
        .filter(|m| NETWORK_TYPES.contains(&m.kind.as_str()))
        .flat_map(addresses_of)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let (major, minor) = left.next()?.split_once(':')?;
    let point = left.nth(1)?;
    let mut right = right.splitn(3, ' ');
    Some(Mount {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        point: PathBuf::from(unescape(point)),
        kind: right.next()?.to_owned(),
        source: unescape(right.next()?),
        options: right.next().unwrap_or_default().to_owned(),
    })
}

/// Spaces, tabs, newlines and backslashes are written as three octal digits.
pub(crate) fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// From the options that name a server, and from the source where it is an address.
fn addresses_of(mount: &Mount) -> Vec<IpAddr> {
    let options = mount.options.split(',').filter_map(|option| {
        let (name, value) = option.split_once('=')?;
        ["addr", "mountaddr"].contains(&name).then_some(value)
    });
    let source = mount.source.trim_start_matches('/');
    let sources = source.split(',').map(server_of);
    options
        .chain(sources)
        .filter_map(|text| text.trim_matches(['[', ']']).parse().ok())
        .collect()
}

/// `server:/path`, `server/share`, `server:port`, `[v6]:/path`.
fn server_of(source: &str) -> &str {
    if let Some(inner) = source.strip_prefix('[') {
        return inner.split(']').next().unwrap_or_default();
    }
    source.split(['/', ':']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &str) -> Mount {
        parse(&format!(
            "36 25 0:32 / /mnt/a\\040b rw,noatime shared:1 - {kind} {source} {options}"
        ))
        .unwrap()
    }

    #[test]
    fn a_line_is_read_with_its_escapes_and_optional_fields() {
        let read = mount("ext4", "/dev/sda1", "rw");
        assert_eq!(read.point, PathBuf::from("/mnt/a b"));
        assert_eq!((read.major, read.minor, read.kind.as_str()), (0, 32, "ext4"));
        assert!(parse("rubbish").is_none());
    }

    #[test]
    fn servers_of_network_mounts_are_found_and_others_are_not() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for (kind, source, options, expected) in [
            ("nfs4", "nas:/export", "rw,addr=10.0.0.5,clientaddr=10.0.0.9", vec!["10.0.0.5"]),
            ("nfs", "10.0.0.6:/export", "rw,mountaddr=10.0.0.6,addr=10.0.0.6", vec!["10.0.0.6"]),
            ("cifs", "//10.0.0.7/share", "rw", vec!["10.0.0.7"]),
            ("ceph", "10.0.0.8:6789,10.0.0.9:6789:/", "rw", vec!["10.0.0.8", "10.0.0.9"]),
            ("nfs4", "[fd00::5]:/x", "rw,addr=fd00::5", vec!["fd00::5"]),
            ("ext4", "10.0.0.1", "rw,addr=10.0.0.1", vec![]),
        ] {
            let expected: Vec<IpAddr> = expected.into_iter().map(address).collect();
            assert_eq!(network_addresses(&[mount(kind, source, options)]), expected, "{kind} {source}");
        }
    }
}
