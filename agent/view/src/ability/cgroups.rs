//! Whether groups of ours can be made on this host, with which controllers, and whether packets can be chosen by group. It makes none.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::feature::{COUNTS_WITHIN, SOCKETS};
use super::kernel::Kernel;
use super::presence::Presence;
use crate::distribution::Distribution;
use crate::hierarchy::{Hierarchies, Hierarchy, Version};
use crate::text;

/// The inode of the namespace of groups that a host starts with: PROC_CGROUP_INIT_INO of include/linux/proc_ns.h.
const FIRST_NAMESPACE: u64 = 0xeffffffb;
/// The controllers that workers' groups use: their weight, and the kills for want of memory in them.
const WANTED: [&str; 2] = ["cpu", "memory"];
const OWN_NAMESPACE: &str = "run fracas-agent in the host's own cgroup namespace";

pub(super) fn groups(hierarchies: &Hierarchies) -> Presence {
    if hierarchies.used().is_empty() {
        let fix = "mount -t cgroup2 none /sys/fs/cgroup";
        return Presence::absent("no control groups are mounted (/proc/self/mountinfo)", fix);
    }
    let is_closed = |folder: &&Path| rustix::fs::access(*folder, rustix::fs::Access::WRITE_OK).is_err();
    match hierarchies
        .used()
        .iter()
        .map(|hierarchy| nearest_existing(&hierarchy.root))
        .find(is_closed)
    {
        Some(closed) => Presence::absent(
            format!("groups cannot be made in {}", closed.display()),
            format!("mount -o remount,rw {}", closed.display()),
        ),
        None => Presence::described(format!("cgroup {}", hierarchies.word())),
    }
}

/// The folder of our groups, or where it is not there yet the one that it is made in with the first of them.
fn nearest_existing(root: &Path) -> &Path {
    root.ancestors().find(|folder| folder.exists()).unwrap_or(root)
}

/// What the groups that we make get: version 1 by its hierarchies, version 2 by what their parent passes on.
pub(super) fn controllers(hierarchies: &Hierarchies) -> Presence {
    let by_hierarchy = |wanted: &str| hierarchies.used().iter().any(|h| h.version == Version::V1 && h.has(wanted));
    let missing: Vec<&str> = WANTED.into_iter().filter(|wanted| !by_hierarchy(wanted)).collect();
    if missing.is_empty() {
        return Presence::described(format!("{} (version 1)", WANTED.join(", ")));
    }
    match hierarchies.unified() {
        Some(unified) => passed_on(unified, &missing),
        None => Presence::absent(
            format!("no hierarchy of groups has the controllers {}", missing.join(", ")),
            unified_alone(),
        ),
    }
}

fn passed_on(unified: &Hierarchy, wanted: &[&str]) -> Presence {
    let read = |file: &str| text::read_if_there(unified.root.join(file)).ok().flatten();
    let Some((there, passed)) = read("cgroup.controllers").zip(read("cgroup.subtree_control")) else {
        let root = unified.root.display();
        return Presence::unknown(
            format!("the controllers of {root} cannot be read (cgroup.controllers, cgroup.subtree_control)"),
            format!("ls -l {root}/cgroup.controllers {root}/cgroup.subtree_control"),
        );
    };
    judge(&unified.root, &there, &passed, wanted)
}

fn judge(root: &Path, there: &str, passed: &str, wanted: &[&str]) -> Presence {
    let lacking = |list: &str| -> Vec<String> {
        let has = |wanted: &&&str| !list.split_whitespace().any(|name| name == **wanted);
        wanted.iter().filter(has).map(|name| (*name).to_owned()).collect()
    };
    let file = root.join("cgroup.subtree_control");
    match (lacking(there), lacking(passed)) {
        (_, missing) if missing.is_empty() => Presence::described(format!("{} (version 2)", wanted.join(", "))),
        (missing, _) if !missing.is_empty() => Presence::absent(
            format!("the kernel gives {} no controllers {}", root.display(), missing.join(", ")),
            format!(
                "remove cgroup_disable={} from the kernel's command line, and reboot",
                missing.join(",")
            ),
        ),
        (_, missing) => Presence::absent(
            format!("groups of ours get no controllers {} ({})", missing.join(", "), file.display()),
            format!("echo +{} > {}", missing.join(" +"), file.display()),
        ),
    }
}

/// The boot with cgroup v2 alone.
fn unified_alone() -> String {
    let boots = Distribution::here().unified_groups();
    boots.unwrap_or_else(|| "move this host to a later release of its distribution: this one's systemd knows no cgroup v2".to_owned())
}

/// The hierarchy whose groups sockets remember, and the rules that ask for them.
pub(super) fn socket_groups(hierarchies: &Hierarchies) -> Presence {
    if hierarchies.unified().is_none() {
        return Presence::absent("the unified hierarchy of groups (cgroup v2) is not mounted", unified_alone());
    }
    let kernel = Kernel::here();
    let rules = Presence::worst(SOCKETS.iter().map(|part| kernel.has(part)));
    match std::fs::metadata("/proc/thread-self/ns/cgroup").map(|namespace| namespace.ino()) {
        Ok(FIRST_NAMESPACE) => rules,
        _ if !rules.is_there() => rules,
        _ => match kernel.symbols {
            Some(symbols) if symbols.contains(COUNTS_WITHIN) => rules,
            Some(_) => {
                let why = "this agent lives in a namespace of groups of its own, and this kernel counts levels from the host's root";
                Presence::absent(why, OWN_NAMESPACE)
            }
            None => Presence::unknown(
                "from where this kernel counts the levels of groups cannot be read from /proc/kallsyms",
                OWN_NAMESPACE,
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_that_are_not_passed_on_are_named_with_the_command_that_does() {
        let root = Path::new("/sys/fs/cgroup");
        let judge = |there: &str, passed: &str| judge(root, there, passed, &WANTED);
        assert_eq!(
            judge("cpuset cpu io memory pids\n", "cpu memory pids\n"),
            Presence::described("cpu, memory (version 2)")
        );
        let fix = |there, passed| match judge(there, passed) {
            Presence::Absent { fix, .. } => fix,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            fix("cpuset cpu memory\n", "memory\n"),
            "echo +cpu > /sys/fs/cgroup/cgroup.subtree_control"
        );
        assert_eq!(fix("cpu memory", ""), "echo +cpu +memory > /sys/fs/cgroup/cgroup.subtree_control");
        assert_eq!(
            fix("cpuset cpu io pids", "cpu"),
            "remove cgroup_disable=memory from the kernel's command line, and reboot"
        );
    }

    #[test]
    fn a_folder_that_is_not_made_yet_is_judged_by_the_one_above_it() {
        let groups_below = |folder: &str| groups(&Hierarchies::detect(Path::new(folder)).unwrap());
        assert_eq!(groups_below("not-made-yet/of-ours"), groups_below(""));
    }

    #[test]
    fn a_host_without_groups_says_how_to_mount_them() {
        let none = Hierarchies::default();
        assert!(matches!(groups(&none), Presence::Absent { fix, .. } if fix.contains("cgroup2")));
        assert!(matches!(controllers(&none), Presence::Absent { .. }));
        assert!(matches!(socket_groups(&none), Presence::Absent { why, .. } if why.contains("cgroup v2")));
    }
}
