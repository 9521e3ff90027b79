//! The control groups that hold a host, one per hierarchy of the machine; it never writes outside groups that carry our name.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::wait;

/// Names start so: `fracas-test.PID.START.FLEET.HOST`, where pid and start time are those of the process that owns the fleet.
const PREFIX: &str = "fracas-test.";

/// One mounted hierarchy and a folder in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Group {
    pub mount: PathBuf,
    pub folder: PathBuf,
    /// The group from which the process came that makes it.
    pub home: PathBuf,
}

/// The folders that `fleet`'s `host` has in every hierarchy; nothing is made yet.
pub fn plan(fleet: &str, host: &str) -> Result<Vec<Group>> {
    let owner = std::process::id();
    let name = format!("{PREFIX}{owner}.{}.{fleet}.{host}", start_time(owner).unwrap_or(0));
    let own = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let hierarchies = hierarchies()?;
    Ok(hierarchies
        .into_iter()
        .map(|hierarchy| Group {
            folder: hierarchy.mount.join(&name),
            home: home(&hierarchy, &own),
            mount: hierarchy.mount,
        })
        .collect())
}

struct Hierarchy {
    mount: PathBuf,
    /// Which part of the hierarchy is mounted there.
    root: String,
    /// The controllers of version 1 in the order of the mount's options; empty for version 2.
    controllers: Vec<String>,
}

/// Every hierarchy mounted below /sys/fs/cgroup, of both versions.
fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    Ok(mounts.lines().filter_map(hierarchy).collect())
}

fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let mount = left.get(4).filter(|mount| mount.starts_with("/sys/fs/cgroup"))?;
    let options = right.get(2).copied().unwrap_or_default();
    let controllers = match right.first().copied() {
        Some("cgroup2") => Vec::new(),
        Some("cgroup") => options
            .split(',')
            .filter(|o| !matches!(*o, "rw" | "ro" | "xattr"))
            .map(str::to_owned)
            .collect(),
        _ => return None,
    };
    Some(Hierarchy {
        mount: PathBuf::from(mount),
        root: left.get(3)?.to_string(),
        controllers,
    })
}

/// The folder of the group this process is in, within one hierarchy.
fn home(hierarchy: &Hierarchy, own: &str) -> PathBuf {
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let same = match hierarchy.controllers.first() {
            None => controllers.is_empty(),
            Some(first) => controllers.split(',').any(|c| c == first),
        };
        same.then(|| parts.next()).flatten()
    });
    let path = path.unwrap_or("/");
    let below = path.strip_prefix(hierarchy.root.trim_end_matches('/')).unwrap_or(path);
    hierarchy.mount.join(below.trim_start_matches('/'))
}

/// Makes the groups; each is ready to take processes.
pub fn make(groups: &[Group]) -> Result<()> {
    groups.iter().try_for_each(|group| make_folder(&group.folder))
}

/// Makes one group below an existing one, whatever its version asks for before it takes processes.
pub fn make_folder(folder: &Path) -> Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("/"));
    if !parent.join("cgroup.procs").exists() && !parent.exists() {
        make_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("make group {}", folder.display()));
        }
        _ => {}
    }
    // A cpuset of version 1 starts empty and takes nobody until it is filled.
    for knob in ["cpuset.cpus", "cpuset.mems"] {
        let (own, inherited) = (folder.join(knob), parent.join(knob));
        if parent.join("cpuset.sched_load_balance").exists() && own.exists() {
            fs::write(&own, fs::read(&inherited)?).with_context(|| format!("fill {}", own.display()))?;
        }
    }
    Ok(())
}

/// Moves the calling process.
pub fn join(folder: &Path) -> Result<()> {
    let procs = folder.join("cgroup.procs");
    fs::write(&procs, std::process::id().to_string()).with_context(|| format!("write {}", procs.display()))
}

/// Removes groups with all below them, waiting for the last processes to be gone.
pub fn remove(groups: &[Group], limit: Duration) -> Result<()> {
    for group in groups {
        wait::until(format_args!("remove group {}", group.folder.display()), limit, || {
            Ok(remove_tree(&group.folder))
        })?;
    }
    Ok(())
}

fn remove_tree(folder: &Path) -> bool {
    for below in folders(folder) {
        remove_tree(&below);
    }
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

pub fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// Removes what a fleet left whose owner was killed together with its keepers; returns the names.
pub fn sweep() -> Vec<PathBuf> {
    let mounts = hierarchies().unwrap_or_default();
    let stale = mounts
        .iter()
        .flat_map(|hierarchy| folders(&hierarchy.mount))
        .filter(|folder| is_stale(folder));
    stale.filter(|folder| remove_tree(folder)).collect()
}

fn is_stale(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let mut parts = rest.split('.');
    let owner = parts.next().and_then(|pid| pid.parse().ok());
    let start = parts.next().and_then(|start| start.parse().ok());
    let (Some(owner), Some(start)) = (owner, start) else { return false };
    start_time(owner) != Some(start)
}

/// When a process started, in ticks since boot: with the pid, its identity.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct";
    const V2: &str = "41 31 0:38 /part /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn the_way_home_is_found_in_both_versions() {
        let own = "4:memory:/m\n1:cpu,cpuacct:/a/b\n0::/part/c\n";
        assert_eq!(home(&hierarchy(V1).unwrap(), own), Path::new("/sys/fs/cgroup/cpu,cpuacct/a/b"));
        assert_eq!(home(&hierarchy(V2).unwrap(), own), Path::new("/sys/fs/cgroup/unified/c"));
        assert!(hierarchy("23 27 0:22 / /sys rw - sysfs sysfs rw").is_none());
    }

    #[test]
    fn only_groups_of_dead_owners_are_stale() {
        let me = std::process::id();
        let start = start_time(me).unwrap();
        let stale = |name: String| is_stale(Path::new(&name));
        assert!(!stale(format!("/x/fracas-test.{me}.{start}.f.web")));
        assert!(stale(format!("/x/fracas-test.{me}.{}.f.web", start + 1)));
        assert!(stale("/x/fracas-test.999999999.7.f.web".into()));
        assert!(!stale("/x/fracas-0193.7.f.web".into()));
        assert!(!stale("/x/user.slice".into()));
    }
}
