//! Paths that a person named: their links are followed one by one, and no step waits for long at a mount that hangs; nothing is opened here.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::bounded::{MOUNT_LOOKS, Subject, Words};
use crate::error::ViewError;
use crate::mounts::{Mount, mount_of, mounts};
use crate::text;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// A path with all of its links followed, but for its last name where that was asked for.
pub(crate) struct Named {
    pub(crate) path: PathBuf,
    /// Where its mount is.
    point: PathBuf,
}

impl Named {
    /// `None` when there is no such path.
    pub(crate) fn find(path: &Path) -> Result<Option<Self>, ViewError> {
        let mounts = mounts()?;
        let found = follow(path, &mounts)?;
        Ok(found.map(|path| Self::at(path, &mounts)))
    }

    /// The same of a name in a folder: what has the name may be a link, or nothing.
    pub(crate) fn find_name(path: &Path) -> Result<Option<Self>, ViewError> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Self::find(path);
        };
        let mounts = mounts()?;
        let found = follow(folder, &mounts)?;
        Ok(found.map(|folder| Self::at(folder.join(name), &mounts)))
    }

    fn at(path: PathBuf, mounts: &[Mount]) -> Self {
        let mount = mount_of(mounts, &path);
        Self {
            point: mount.map_or_else(|| PathBuf::from("/"), |mount| mount.point.clone()),
            path,
        }
    }

    /// What `see` sees at the path; its errors of the system are an answer of the path.
    pub(crate) fn look<T: Send + 'static>(
        self,
        see: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<io::Result<T>, ViewError> {
        let Self { path, point } = self;
        MOUNT_LOOKS.look(subject(&path, point), move || Ok(see(&path)))
    }

    /// What a search below the path finds; nothing where it is late. It may take long on a disk that is slow but answers, so looks at the
    /// path's mount go on beside it.
    pub(crate) fn search<T: Send + 'static>(self, find: impl FnOnce(&Path) -> Option<T> + Send + 'static) -> Result<Option<T>, ViewError> {
        let Self { path, point } = self;
        match MOUNT_LOOKS.look(names(&point), move || Ok(find(&path))) {
            Err(late) if late.source.kind() == io::ErrorKind::TimedOut => Ok(None),
            found => found,
        }
    }
}

/// Searches of one mount wait for the same disk.
fn names(point: &Path) -> Subject {
    let sort = format!("names on mount {}", point.display());
    let what = format!("the names of files on what is mounted at {}", point.display());
    Subject::new(sort, move || Words {
        what: what.clone(),
        fix: "its disk is slow or very busy (fix: try again when that is less busy)".to_owned(),
    })
}

/// Looks at one mount hang together. Those at other mounts go on, so that what was done there is undone all the same.
fn subject(path: &Path, point: PathBuf) -> Subject {
    let (sort, what) = (format!("mount {}", point.display()), path.display().to_string());
    Subject::new(sort, move || {
        let point = point.display();
        Words {
            what: what.clone(),
            fix: format!(
                "what is mounted at {point} hangs (fix: bring its server back, or unmount it: umount -f {point}, else umount -l {point})"
            ),
        }
    })
}

/// The path without links; each of its parts is asked of the mount that it is on, since a link may lead to one that hangs.
fn follow(path: &Path, mounts: &[Mount]) -> Result<Option<PathBuf>, ViewError> {
    let failed = |e: io::Error| ViewError::new(path.display().to_string(), e);
    let mut left = last_first(&std::path::absolute(path).map_err(failed)?);
    let (mut whole, mut links) = (PathBuf::from("/"), 0);
    while let Some(part) = left.pop() {
        if part == ".." {
            whole.pop();
            continue;
        }
        let next = Named::at(whole.join(part), mounts);
        let plain = next.path.clone();
        match next.look(|path| fs::read_link(path))? {
            Ok(_) if links == MOST_LINKS => return Err(failed(io::Error::from_raw_os_error(libc::ELOOP))),
            Ok(target) => {
                links += 1;
                if target.is_absolute() {
                    whole = PathBuf::from("/");
                }
                left.extend(last_first(&target));
            }
            // It is there, and no link.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => whole = plain,
            Err(e) if text::is_absent(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(Some(whole))
}

fn last_first(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().rev().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::bounded::PROCESS_LOOKS;

    fn found(path: &Path) -> Option<PathBuf> {
        Named::find(path).unwrap().map(|named| named.path)
    }

    #[test]
    fn a_look_that_hangs_at_a_mount_takes_nothing_of_what_looks_at_processes_have() {
        let sort = "mount /of/this/test";
        let (end, hangs) = channel::<()>();
        let named = Named {
            path: PathBuf::from("/"),
            point: PathBuf::from("/of/this/test"),
        };
        let late = named.look(move |_| Ok(hangs.recv().is_ok()));
        assert_eq!(late.unwrap_err().source.kind(), io::ErrorKind::TimedOut);
        assert!(MOUNT_LOOKS.overdue(sort).is_some() && PROCESS_LOOKS.overdue(sort).is_none());
        drop(end);
    }

    #[test]
    fn links_are_followed_as_the_kernel_follows_them() {
        let folder = std::env::temp_dir().join(format!("fracas-named-{}", std::process::id()));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/file"), "").unwrap();
        symlink(folder.join("a"), folder.join("absolute")).unwrap();
        symlink("absolute/b", folder.join("twice")).unwrap();
        symlink("../a/./b/..", folder.join("a/up")).unwrap();
        symlink("nothing", folder.join("dangling")).unwrap();
        symlink("endless", folder.join("endless")).unwrap();
        for name in [
            "",
            "a",
            "absolute",
            "absolute/b",
            "twice",
            "twice/..",
            "a/up/up/file",
            "a/../a/file",
        ] {
            let path = folder.join(name);
            assert_eq!(found(&path), Some(fs::canonicalize(&path).unwrap()), "{name}");
        }
        for name in ["none", "none/x", "dangling", "a/file/x"] {
            assert!(fs::canonicalize(folder.join(name)).is_err());
            assert_eq!(found(&folder.join(name)), None, "{name}");
        }
        let error = Named::find(&folder.join("endless")).err().unwrap();
        assert_eq!(error.source.raw_os_error(), Some(libc::ELOOP));
        let link = Named::find_name(&folder.join("absolute/../twice")).unwrap().unwrap();
        assert_eq!(link.path, fs::canonicalize(&folder).unwrap().join("twice"));
        assert!(link.look(|path| fs::symlink_metadata(path)).unwrap().unwrap().is_symlink());
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found(Path::new("/")), Some(PathBuf::from("/")));
    }
}
