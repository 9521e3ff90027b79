//! Makes, ends and removes groups of ours in every hierarchy we use; it never touches a group that is not named by an injection.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_view::GroupId;
use agent_view::hierarchy::{Hierarchies, Hierarchy, Version};
use rustix::fs::OFlags;
use rustix::process::Signal;

use crate::error::OpsError;
use crate::signal;

/// Between two looks at a group that is ending.
const PAUSE: Duration = Duration::from_millis(2);
/// How long the kernel may take to let an emptied group go.
const REMOVE_WITHIN: Duration = Duration::from_secs(1);
/// How deep a group of ours is searched for groups below it.
const DEEPEST: usize = 8;

pub(crate) fn make(hierarchies: &Hierarchies, group: &GroupId) -> Result<(), OpsError> {
    if hierarchies.used().is_empty() {
        let none = io::Error::new(io::ErrorKind::Unsupported, "no cgroup hierarchy is mounted here");
        return Err(OpsError::new(format!("make group {}", group.0), none));
    }
    for hierarchy in hierarchies.used() {
        let folder = hierarchy.folder(group);
        let made = fs::create_dir_all(&hierarchy.root).and_then(|()| match fs::create_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        });
        made.map_err(|e| OpsError::new(format!("make group {}", folder.display()), e))?;
    }
    Ok(())
}

/// Files of a group's weight, with the weight of an ordinary group and the most that there is: versions 1 and 2.
const WEIGHTS: [(&str, u32, u32); 2] = [("cpu.shares", 1_024, 262_144), ("cpu.weight", 100, 10_000)];

/// Gives the group the weight of so many ordinary ones. Where the kernel does not divide time by groups there is no such file, and every
/// thread counts for itself.
pub(crate) fn weigh(hierarchies: &Hierarchies, group: &GroupId, times: u32) -> Result<(), OpsError> {
    for (file, ordinary, most) in WEIGHTS {
        for hierarchy in hierarchies.used() {
            let path = hierarchy.folder(group).join(file);
            match write_group_value(&path, &ordinary.saturating_mul(times).min(most).to_string()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(OpsError::new(format!("write {}", path.display()), e)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Where a process writes "0" to enter the group, in each hierarchy.
pub(crate) fn doors(hierarchies: &Hierarchies, group: &GroupId) -> Result<Vec<File>, OpsError> {
    let open = |hierarchy: &Hierarchy| {
        let path = hierarchy.folder(group).join("cgroup.procs");
        let opened = OpenOptions::new().write(true).open(&path);
        opened.map_err(|e| OpsError::new(format!("open {}", path.display()), e))
    };
    hierarchies.used().iter().map(open).collect()
}

/// Kills every process of the group once, and waits for none. A group that is not there has none.
pub(crate) fn kill(hierarchies: &Hierarchies, group: &GroupId) -> Result<(), OpsError> {
    if !is_there(hierarchies, group) {
        return Ok(());
    }
    kill_all(hierarchies, group).map_err(|e| OpsError::new(format!("kill the processes of group {}", group.0), e))
}

fn is_there(hierarchies: &Hierarchies, group: &GroupId) -> bool {
    hierarchies.used().iter().any(|h| h.folder(group).is_dir())
}

/// Kills every process of the group until none is left; `reap` is called between looks. Returns false when there was no group.
pub(crate) fn end(hierarchies: &Hierarchies, group: &GroupId, wait: Duration, mut reap: impl FnMut()) -> Result<bool, OpsError> {
    if !is_there(hierarchies, group) {
        return Ok(false);
    }
    let failed = |e: io::Error| OpsError::new(format!("end the processes of group {}", group.0), e);
    let deadline = Instant::now() + wait;
    loop {
        let killed = kill_all(hierarchies, group);
        reap();
        let left = hierarchies.members(group).map_err(|e| failed(io::Error::other(e)))?;
        if left.is_empty() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            killed.map_err(failed)?;
            let text = format!("they were killed and are still there: pids {left:?}");
            return Err(failed(io::Error::new(io::ErrorKind::TimedOut, text)));
        }
        std::thread::sleep(PAUSE);
    }
}

/// By the kernel's own switch where there is one, then one by one, frozen so that none can fork away.
fn kill_all(hierarchies: &Hierarchies, group: &GroupId) -> io::Result<()> {
    for hierarchy in hierarchies.used().iter().filter(|h| h.version == Version::V2) {
        // Kernels before 5.14 have no such file.
        let _ = write_value(&hierarchy.folder(group).join("cgroup.kill"), "1");
    }
    let freezer = hierarchies
        .used()
        .iter()
        .find(|h| h.has("freezer"))
        .map(|h| h.folder(group).join("freezer.state"));
    let members = hierarchies.members(group).map_err(io::Error::other)?;
    if members.is_empty() {
        return Ok(());
    }
    set_freezer(freezer.as_deref(), "FROZEN");
    let killed = hierarchies.members(group).map_err(io::Error::other).and_then(|members| {
        let results: Vec<io::Result<bool>> = members
            .into_iter()
            .map(|pid| signal::send(pid, Signal::KILL, || is_member(pid, group)))
            .collect();
        results.into_iter().collect::<io::Result<Vec<bool>>>()
    });
    // A frozen process does not die before it is thawed.
    set_freezer(freezer.as_deref(), "THAWED");
    killed.map(|_| ())
}

fn set_freezer(path: Option<&Path>, state: &str) {
    if let Some(path) = path
        && let Err(error) = write_value(path, state)
    {
        tracing::debug!(%error, path = %path.display(), "the group's freezer cannot be set");
    }
}

/// By the process's own list, so that a pid that was given anew is left alone.
fn is_member(pid: u32, group: &GroupId) -> io::Result<bool> {
    match fs::read_to_string(format!("/proc/{pid}/cgroup")) {
        Ok(groups) => Ok(groups.lines().any(|line| line.split('/').any(|part| part == group.0))),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Already gone is success.
pub(crate) fn remove(hierarchies: &Hierarchies, group: &GroupId) -> Result<(), OpsError> {
    let mut first_failure = None;
    for hierarchy in hierarchies.used() {
        let folder = hierarchy.folder(group);
        if let Err(e) = remove_within(&folder, REMOVE_WITHIN) {
            first_failure.get_or_insert(OpsError::new(format!("remove group {}", folder.display()), e));
        }
    }
    first_failure.map_or(Ok(()), Err)
}

fn remove_within(folder: &Path, wait: Duration) -> io::Result<()> {
    let deadline = Instant::now() + wait;
    loop {
        match remove_tree(folder, DEEPEST) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
}

fn remove_tree(folder: &Path, depth: usize) -> io::Result<()> {
    if depth > 0 {
        for below in folders_in(folder)? {
            remove_tree(&below, depth - 1)?;
        }
    }
    match fs::remove_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn folders_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            Ok(folders.map(|entry| entry.path()).collect())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Writes to a file of the kernel that must exist already.
pub(crate) fn write_value(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Writes to a group's own file; any other file is left as it is, whatever its path.
pub(crate) fn write_group_value(path: &Path, value: &str) -> io::Result<()> {
    /// What `statfs` calls the file systems of groups, both versions.
    const GROUPS: [rustix::fs::FsWord; 2] = [0x0027_e0eb, 0x6367_7270];
    let mut file = OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let of = rustix::fs::fstatfs(&file)?.f_type;
    if !GROUPS.contains(&of) {
        return Err(io::Error::other("it is no file of a control group"));
    }
    file.write_all(value.as_bytes())
}
