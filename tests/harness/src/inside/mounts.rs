//! Gives a host its own /proc, /sys, /run, /etc and /var/lib over the machine's files, which it can read and not change.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::protocol::HostSpec;

const NOTHING: Option<&str> = None;
const CGROUPS: &str = "/sys/fs/cgroup";
/// Where the machine's own folders are seen from inside.
const MACHINE: &str = "/run/machine";

/// Call it in fresh mount, pid and network namespaces, before there is a second process.
pub fn shape(spec: &HostSpec) -> Result<()> {
    own_root()?;
    let machine = fs::read_to_string("/proc/self/mountinfo")?;
    for folder in &spec.writable {
        bind(folder, folder)?;
    }
    tmpfs(Path::new("/run"))?;
    fs::create_dir_all("/run/tmp")?;
    let staged = stage_groups(spec)?;
    fresh("/sys", "sysfs")?;
    place_groups(&staged)?;
    fresh("/proc", "proc")?;
    cover("/etc", "etc")?;
    cover("/var/lib", "var-lib")?;
    for folder in ["/etc/fracas", "/var/lib/fracas", "/run/fracas"] {
        fs::create_dir(folder)?;
    }
    identity(spec)?;
    protect(&machine, spec)
}

/// Cuts our mounts off from the machine's. The root of a chroot is no mount, and is made one first.
fn own_root() -> Result<()> {
    let private = || mount(NOTHING, "/", NOTHING, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NOTHING);
    match private() {
        Err(Errno::EINVAL) => {
            mount(Some("/"), "/", NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING).context("bind the chroot's root")?;
            nix::unistd::chdir("/")?;
            // The way up from a root stays there, but sees what was mounted on it.
            nix::unistd::chroot("..").context("enter the chroot's own mount")?;
            nix::unistd::chdir("/")?;
            private().context("make the chroot's mounts private")
        }
        done => done.context("make mounts private"),
    }
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, NOTHING, MsFlags::MS_BIND, NOTHING).with_context(|| format!("bind {} to {}", from.display(), to.display()))
}

fn tmpfs(at: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("fracas-test"), at, Some("tmpfs"), flags, Some("mode=755,size=256m"))
        .with_context(|| format!("mount a tmpfs at {}", at.display()))
}

/// Takes what is mounted at and below `at` away, and mounts the file system of this kind anew for our namespaces.
fn fresh(at: &str, kind: &str) -> Result<()> {
    umount2(at, MntFlags::MNT_DETACH).ok();
    mount(Some(kind), at, Some(kind), MsFlags::empty(), NOTHING).with_context(|| format!("mount {kind} at {at}"))
}

/// Binds each of the host's groups aside, while the machine's tree is still there to be seen.
fn stage_groups(spec: &HostSpec) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut staged = Vec::new();
    for (number, group) in spec.groups.iter().enumerate() {
        let aside = PathBuf::from(format!("/run/group-{number}"));
        fs::create_dir(&aside)?;
        bind(&group.folder, &aside)?;
        staged.push((aside, group.mount.clone()));
    }
    // Such as cpu -> cpu,cpuacct.
    for entry in fs::read_dir(CGROUPS).into_iter().flatten().flatten() {
        if let Ok(target) = fs::read_link(entry.path()) {
            staged.push((target, entry.path()));
        }
    }
    Ok(staged)
}

fn place_groups(staged: &[(PathBuf, PathBuf)]) -> Result<()> {
    if !staged.iter().any(|(_, at)| at == Path::new(CGROUPS)) {
        tmpfs(Path::new(CGROUPS))?;
    }
    for (from, at) in staged {
        if !from.starts_with("/run") {
            symlink(from, at)?;
            continue;
        }
        fs::create_dir_all(at).or_else(|error| if at.exists() { Ok(()) } else { Err(error) })?;
        mount(Some(from), at, NOTHING, MsFlags::MS_MOVE, NOTHING).with_context(|| format!("move a hierarchy to {}", at.display()))?;
        fs::remove_dir(from)?;
    }
    Ok(())
}

/// Lays a folder of links over one of the machine's, so that entries can be added and replaced.
fn cover(folder: &str, name: &str) -> Result<()> {
    let kept = Path::new(MACHINE).join(name);
    fs::create_dir_all(&kept)?;
    bind(Path::new(folder), &kept)?;
    tmpfs(Path::new(folder))?;
    for entry in fs::read_dir(&kept)?.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_else(|_| entry.path());
        let name = entry.file_name();
        if name != "fracas" {
            symlink(target, Path::new(folder).join(&name))?;
        }
    }
    Ok(())
}

/// Who the host is: its name, machine-id and boot id, and the names of its neighbours.
fn identity(spec: &HostSpec) -> Result<()> {
    nix::unistd::sethostname(&spec.name)?;
    replace("/etc/hostname", &format!("{}\n", spec.name))?;
    replace("/etc/machine-id", &format!("{}\n", spec.machine_id))?;
    replace("/etc/resolv.conf", "")?;
    let mut hosts = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for host in &spec.neighbours {
        hosts += &format!("{} {}\n{} {}\n", host.v4, host.name, host.v6, host.name);
    }
    replace("/etc/hosts", &hosts)?;
    fs::write("/run/boot_id", format!("{}\n", spec.boot_id))?;
    bind(Path::new("/run/boot_id"), Path::new("/proc/sys/kernel/random/boot_id"))
}

fn replace(path: &str, text: &str) -> Result<()> {
    fs::remove_file(path).ok();
    fs::write(path, text).with_context(|| format!("write {path}"))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o644))?)
}

/// Makes the machine's own mounts read-only as this host sees them.
fn protect(machine: &str, spec: &HostSpec) -> Result<()> {
    let ours = ["/proc", "/sys", "/dev", "/run"];
    let points = machine.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    for point in points.filter(|point| *point != Path::new("/")) {
        if !ours.iter().any(|root| point.starts_with(root)) && !spec.writable.iter().any(|folder| folder == point) {
            // Some kinds of mount cannot change; what matters is the root.
            read_only(point).ok();
        }
    }
    for kept in ["etc", "var-lib"] {
        read_only(&Path::new(MACHINE).join(kept))?;
    }
    read_only(Path::new("/"))
}

fn read_only(point: &Path) -> Result<()> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(NOTHING, point, NOTHING, flags, NOTHING).with_context(|| format!("make {} read-only", point.display()))
}

/// Where this host's hierarchies are mounted.
pub fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let is_group = |line: &&str| line.contains(" - cgroup");
    let points = mounts.lines().filter(is_group).filter_map(|line| line.split(' ').nth(4));
    Ok(points.filter(|point| point.starts_with(CGROUPS)).map(PathBuf::from).collect())
}
