//! Where the kernel's groups (cgroups, version 1 and 2) are mounted, and where ours lie in them; it makes none.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use proto_model::id::InjectionId;
use serde::{Deserialize, Serialize};

use crate::error::ViewError;
use crate::mounts::{Mount, mounts};
use crate::text;

/// The controllers of version 1 whose hierarchies hold our groups, where they are mounted.
const USED: [&str; 4] = ["cpu", "cpuacct", "freezer", "memory"];
/// How deep a group of ours is searched for groups below it.
const DEEPEST: usize = 8;

/// A group (cgroup) of ours: `fracas-<injection>`, in every hierarchy we use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupId(pub String);

impl GroupId {
    /// What every group of ours begins with.
    pub const PREFIX: &str = "fracas-";

    pub fn of(injection: &InjectionId) -> Self {
        Self(format!("{}{injection}", Self::PREFIX))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// A group of the unified hierarchy (version 2), anybody's, as the kernel's rules for packets know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnifiedGroup {
    /// The kernel's number for it: a group that is made anew at the same path has another.
    pub id: u64,
    /// How many folders deep it lies below the root.
    pub level: u32,
}

/// One mounted hierarchy that holds groups of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    pub version: Version,
    /// Version 1: the controllers mounted here.
    pub controllers: Vec<String>,
    mount: PathBuf,
    /// The folder in which groups of ours are made.
    pub root: PathBuf,
    device: (u32, u32),
}

/// Every hierarchy of this host that we use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    used: Vec<Hierarchy>,
    any_v1: bool,
}

impl Hierarchy {
    pub fn folder(&self, group: &GroupId) -> PathBuf {
        self.root.join(&group.0)
    }

    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

impl Hierarchies {
    /// Looks at what is mounted. `below` is the folder inside each hierarchy in which our groups lie: empty for its root.
    pub fn detect(below: &Path) -> Result<Self, ViewError> {
        let mut all = Self::of(&mounts()?, visible);
        for hierarchy in &mut all.used {
            hierarchy.root.push(below);
        }
        Ok(all)
    }

    fn of(mounts: &[Mount], visible: impl Fn(&Mount) -> bool) -> Self {
        let mut found = Self::default();
        for mount in mounts.iter().filter(|mount| mount.kind.starts_with("cgroup") && visible(mount)) {
            let Some(hierarchy) = hierarchy_of(mount) else { continue };
            found.any_v1 |= hierarchy.version == Version::V1 && !hierarchy.controllers.is_empty();
            let used = hierarchy.version == Version::V2 || USED.iter().any(|controller| hierarchy.has(controller));
            if used && !found.used.iter().any(|known| known.device == hierarchy.device) {
                found.used.push(hierarchy);
            }
        }
        found
    }

    pub fn used(&self) -> &[Hierarchy] {
        &self.used
    }

    pub(crate) fn unified(&self) -> Option<&Hierarchy> {
        self.used.iter().find(|h| h.version == Version::V2)
    }

    /// The group at this path below the root, as in /proc/PID/cgroup; `None` when there is none, or no unified hierarchy.
    pub fn unified_group(&self, path: &str) -> Result<Option<UnifiedGroup>, ViewError> {
        let (Some(unified), Some(below)) = (self.unified(), plain(path)) else {
            return Ok(None);
        };
        let folder = unified.mount.join(&below);
        match fs::metadata(&folder) {
            // The number of a folder's inode is all of the group's where that has 64 bits.
            Ok(found) => Ok(found.is_dir().then(|| UnifiedGroup {
                id: found.ino(),
                level: u32::try_from(below.components().count()).unwrap_or(u32::MAX),
            })),
            Err(e) if text::is_absent(&e) || e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(ViewError::new(folder.display().to_string(), e)),
        }
    }

    /// `v1`, `v2`, `hybrid` or `none`.
    pub fn word(&self) -> &'static str {
        match (self.any_v1, self.unified().is_some()) {
            (true, true) => "hybrid",
            (true, false) => "v1",
            (false, true) => "v2",
            (false, false) => "none",
        }
    }

    /// Names of all groups of ours, in whatever hierarchy.
    pub fn our_groups(&self) -> Result<Vec<GroupId>, ViewError> {
        let mut found = Vec::new();
        for hierarchy in &self.used {
            found.extend(folders_in(&hierarchy.root)?.into_iter().filter_map(|name| ours(&name)));
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Processes of the group and of groups below it, over all hierarchies.
    pub fn members(&self, group: &GroupId) -> Result<Vec<u32>, ViewError> {
        let mut pids = Vec::new();
        for hierarchy in &self.used {
            members_below(&hierarchy.folder(group), DEEPEST, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// How many processors' time the groups above ours may use in all, the least of them; `None` without a quota.
    pub fn cpu_quota(&self) -> Option<f64> {
        let above = self.used.iter().flat_map(|hierarchy| {
            let inside = |folder: &&Path| folder.starts_with(&hierarchy.mount);
            hierarchy.root.ancestors().take_while(inside)
        });
        above.filter_map(quota_of).min_by(f64::total_cmp)
    }

    /// Microseconds of processor time; `None` when it is not accounted.
    pub fn cpu_usec(&self, group: &GroupId) -> Result<Option<u64>, ViewError> {
        if let Some(accounted) = self.used.iter().find(|h| h.has("cpuacct")) {
            let usage = text::read_if_there(accounted.folder(group).join("cpuacct.usage"))?;
            return Ok(usage.and_then(|text| text.trim().parse::<u64>().ok()).map(|ns| ns / 1_000));
        }
        let Some(unified) = self.unified() else {
            return Ok(None);
        };
        let stat = text::read_if_there(unified.folder(group).join("cpu.stat"))?;
        Ok(stat.and_then(|text| text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())))
    }
}

/// Of one group, in processors.
fn quota_of(folder: &Path) -> Option<f64> {
    let read = |file: &str| text::read_if_there(folder.join(file)).ok().flatten();
    let (quota, period) = match read("cpu.max") {
        Some(text) => {
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
        None => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
    };
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number > 0.0);
    Some(number(&quota)? / number(&period)?)
}

/// A path from the root without its first slash; `None` when it is none, or leads upward.
fn plain(path: &str) -> Option<PathBuf> {
    let below = Path::new(path.strip_prefix('/')?);
    below
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
        .then(|| below.to_owned())
}

/// What `stat` says at the mount point is what is mounted there, or something else covers it.
fn visible(mount: &Mount) -> bool {
    fs::metadata(&mount.point).is_ok_and(|found| {
        let device = found.dev();
        (rustix::fs::major(device), rustix::fs::minor(device)) == (mount.major, mount.minor)
    })
}

fn hierarchy_of(mount: &Mount) -> Option<Hierarchy> {
    let version = match mount.kind.as_str() {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let options = mount
        .options
        .split(',')
        .filter(|o| !o.is_empty() && !o.contains('=') && *o != "rw" && *o != "ro");
    let controllers = match version {
        Version::V1 => options.map(str::to_owned).collect(),
        Version::V2 => Vec::new(),
    };
    Some(Hierarchy {
        version,
        controllers,
        mount: mount.point.clone(),
        root: mount.point.clone(),
        device: (mount.major, mount.minor),
    })
}

/// A group is ours when its name is our prefix and an injection's id.
fn ours(name: &str) -> Option<GroupId> {
    let id = InjectionId::parse(name.strip_prefix(GroupId::PREFIX)?).ok()?;
    Some(GroupId::of(&id))
}

fn folders_in(folder: &Path) -> Result<Vec<String>, ViewError> {
    let failed = |e| ViewError::new(folder.display().to_string(), e);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if text::is_absent(&e) => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

fn members_below(folder: &Path, depth: usize, pids: &mut Vec<u32>) -> Result<(), ViewError> {
    let listed = match text::read_if_there(folder.join("cgroup.procs")) {
        // The group was removed while it was read.
        Err(e) if e.source.raw_os_error() == Some(libc::ENODEV) => None,
        other => other?,
    };
    let Some(listed) = listed else { return Ok(()) };
    // A process of another pid namespace is listed as 0.
    pids.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid > 0));
    if depth > 0 {
        for name in folders_in(folder)? {
            members_below(&folder.join(name), depth - 1, pids)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, point: &str, options: &str, minor: u32) -> Mount {
        Mount {
            major: 0,
            minor,
            point: PathBuf::from(point),
            kind: kind.to_owned(),
            source: "cgroup".to_owned(),
            options: options.to_owned(),
        }
    }

    #[test]
    fn each_layout_of_hierarchies_has_its_word() {
        let v2 = mount("cgroup2", "/sys/fs/cgroup", "rw,nsdelegate", 1);
        let cpu = mount("cgroup", "/sys/fs/cgroup/cpu,cpuacct", "rw,cpu,cpuacct", 2);
        let blkio = mount("cgroup", "/sys/fs/cgroup/blkio", "rw,blkio", 3);
        let named = mount("cgroup", "/sys/fs/cgroup/systemd", "rw,xattr,name=systemd", 4);
        for (mounts, word, used) in [
            (vec![v2.clone()], "v2", 1),
            (vec![cpu.clone(), blkio.clone()], "v1", 1),
            (vec![v2.clone(), cpu.clone(), blkio.clone(), named], "hybrid", 2),
            (vec![], "none", 0),
        ] {
            let found = Hierarchies::of(&mounts, |_| true);
            assert_eq!((found.word(), found.used().len()), (word, used));
        }
    }

    #[test]
    fn what_is_covered_or_mounted_twice_counts_once() {
        let twice = [
            mount("cgroup2", "/sys/fs/cgroup", "rw", 1),
            mount("cgroup2", "/mnt/again", "rw", 1),
            mount("cgroup", "/sys/fs/cgroup/memory", "rw,memory", 2),
        ];
        let found = Hierarchies::of(&twice, |mount| mount.minor != 2);
        assert_eq!(found.used().len(), 1);
        assert_eq!(found.used()[0].root, PathBuf::from("/sys/fs/cgroup"));
    }

    #[test]
    fn a_group_is_found_below_the_mount_wherever_ours_lie_and_never_above() {
        let crate_folder = env!("CARGO_MANIFEST_DIR");
        let mut found = Hierarchies::of(&[mount("cgroup2", crate_folder, "rw", 1)], |_| true);
        found.used[0].root.push("somewhere/else");
        let seen = found.unified_group("/src/net").unwrap().unwrap();
        let inode = fs::metadata(Path::new(crate_folder).join("src/net")).unwrap().ino();
        assert_eq!((seen.id, seen.level), (inode, 2));
        assert_eq!(found.unified_group("/src/").unwrap().unwrap().level, 1);
        for absent in ["/src/none.service", "/src/../..", "src", "/src/lib.rs"] {
            assert_eq!(found.unified_group(absent).unwrap(), None, "{absent}");
        }
        assert_eq!(Hierarchies::default().unified_group("/src").unwrap(), None);
    }

    #[test]
    fn only_a_whole_id_makes_a_group_ours() {
        let id = InjectionId::generate();
        assert_eq!(ours(&format!("fracas-{id}")), Some(GroupId::of(&id)));
        for stranger in ["fracas-agent.service", "fracas-", "docker", &format!("x-fracas-{id}")] {
            assert_eq!(ours(stranger), None);
        }
    }
}
