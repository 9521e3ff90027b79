//! The rest of a footprint: knobs, groups, processes, mounts, our files and who the host is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;

use super::Section;
use super::json::{ask, insert, section};
use crate::groups::folders;
use crate::inside::hierarchies;

/// The knobs of a group that a fault may turn, of both versions.
const GROUP_KNOBS: [&str; 18] = [
    "cgroup.subtree_control",
    "cgroup.freeze",
    "cpu.max",
    "cpu.weight",
    "cpu.shares",
    "cpu.cfs_quota_us",
    "cpuset.cpus",
    "cpuset.mems",
    "memory.max",
    "memory.high",
    "memory.limit_in_bytes",
    "pids.max",
    "io.max",
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_iops_device",
    "freezer.state",
];
/// Knobs of the network that move by themselves or are made up at each reading.
const MOVING_KNOBS: [&str; 3] = ["stable_secret", "nf_conntrack_count", "flush"];
/// Where everything of ours is.
const OURS: [&str; 4] = ["/etc/fracas", "/var/lib/fracas", "/run/fracas", "/run/fracas-agent"];
const MAX_DEPTH: u32 = 12;

/// Every knob of the network namespace.
pub fn sysctls() -> Section {
    let mut all = Section::new();
    knobs(Path::new("/proc/sys/net"), 0, &mut all);
    all
}

fn knobs(folder: &Path, depth: u32, all: &mut Section) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if MOVING_KNOBS.iter().any(|moving| name == *moving) || depth > MAX_DEPTH {
            continue;
        }
        if path.is_dir() {
            knobs(&path, depth + 1, all);
        } else if let Ok(value) = fs::read_to_string(&path) {
            all.insert(path.display().to_string(), value.trim().to_owned());
        }
    }
}

/// Every group below the host's own root, with its limits.
pub fn groups() -> Result<Section> {
    let mut all = Section::new();
    for mount in hierarchies()? {
        for below in folders(&mount) {
            group(&below, 0, &mut all);
        }
    }
    Ok(all)
}

fn group(folder: &Path, depth: u32, all: &mut Section) {
    let knob = |name: &&str| Some(format!("{name}={}", fs::read_to_string(folder.join(name)).ok()?.trim()));
    let limits: Vec<String> = GROUP_KNOBS.iter().filter_map(knob).collect();
    all.insert(folder.display().to_string(), limits.join(" "));
    if depth < MAX_DEPTH {
        folders(folder).iter().for_each(|below| group(below, depth + 1, all));
    }
}

/// Every process by its command line, with what a fault may change of it; pids are nobody's business.
pub fn processes() -> Section {
    let mut all = Section::new();
    let own = std::process::id().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid.bytes().all(|byte| byte.is_ascii_digit())
            && pid != own
            && let Some((name, state)) = process(&entry.path())
        {
            insert(&mut all, name, state);
        }
    }
    all
}

fn process(folder: &Path) -> Option<(String, String)> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let (status, stat) = (read("status")?, read("stat")?);
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let state = match field("State:").chars().next()? {
        'T' => "stopped",
        't' => "traced",
        'Z' | 'X' => "dead",
        _ => "alive",
    };
    let nice = stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.to_owned();
    let command = read("cmdline")?.replace('\0', " ");
    let name = if command.is_empty() {
        field("Name:")
    } else {
        command.trim().to_owned()
    };
    let score = read("oom_score_adj")?.trim().to_owned();
    let group = read("cgroup")?
        .lines()
        .filter_map(|line| line.split(':').nth(2))
        .collect::<Vec<_>>()
        .join(",");
    Some((
        name,
        format!(
            "{state} nice={nice} oom_score_adj={score} cpus={} groups={group}",
            field("Cpus_allowed_list:")
        ),
    ))
}

/// Every mount point with kind, root and options.
pub fn mounts() -> Result<Section> {
    let mut all = Section::new();
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let [_, _, _, root, point, options, ..] = left[..] else { continue };
        insert(&mut all, point.to_owned(), format!("{root} {options} {right}"));
    }
    Ok(all)
}

/// How full each small volume is, and which files of ours are at its top; larger ones change by themselves.
pub fn volumes() -> Result<Section> {
    let mut all = Section::new();
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let source = line
            .split_once(" - ")
            .and_then(|(_, right)| right.split(' ').nth(1))
            .unwrap_or_default();
        let Some(point) = line.split(' ').nth(4).filter(|_| source.starts_with("/dev/loop")) else {
            continue;
        };
        let space = nix::sys::statvfs::statvfs(point)?;
        let entries = fs::read_dir(point).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut ours: Vec<String> = names.filter(|name| name.starts_with(".fracas-")).collect();
        ours.sort();
        let free = space.blocks_free() * space.fragment_size();
        insert(
            &mut all,
            point.to_owned(),
            format!("{free} bytes free, {} of ours {ours:?}", ours.len()),
        );
    }
    Ok(all)
}

/// The names and modes of everything in our folders.
pub fn files(root: &Path) -> Section {
    let mut all = Section::new();
    for folder in OURS {
        file(&root.join(folder.trim_start_matches('/')), 0, &mut all);
    }
    all
}

fn file(path: &Path, depth: u32, all: &mut Section) {
    let Ok(kind) = fs::symlink_metadata(path) else { return };
    all.insert(path.display().to_string(), format!("{:o}", kind.permissions().mode()));
    if kind.is_dir() && depth < MAX_DEPTH {
        fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .for_each(|entry| file(&entry.path(), depth + 1, all));
    }
}

/// How far the wall clock is from the time since boot, in milliseconds: whoever sets it moves this.
pub fn clock() -> Result<Section> {
    let now = |id| nix::time::clock_gettime(id).map(std::time::Duration::from);
    let wall = now(nix::time::ClockId::CLOCK_REALTIME)?.as_millis();
    let since_boot = now(nix::time::ClockId::CLOCK_BOOTTIME)?.as_millis();
    Ok(Section::from([("offset".to_owned(), wall.saturating_sub(since_boot).to_string())]))
}

/// Every unit of systemd and its state; none on a host that another program supervises.
pub fn units() -> Result<Section> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(Section::new());
    }
    let listed = ask("systemctl", &["list-units", "--all", "--no-pager", "--output=json"])?;
    Ok(section(&listed, &["unit"]))
}

/// Who the host says it is.
pub fn identity() -> Section {
    let names = [
        "/proc/sys/kernel/hostname",
        "/etc/machine-id",
        "/proc/sys/kernel/random/boot_id",
        "/etc/hosts",
        "/etc/resolv.conf",
    ];
    names
        .iter()
        .map(|name| ((*name).to_owned(), fs::read_to_string(name).unwrap_or_default().trim().to_owned()))
        .collect()
}
