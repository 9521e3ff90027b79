//! What the host says of itself once, at the start of a session; never used to decide anything about harm.

use std::net::IpAddr;
use std::path::Path;

use proto_model::host::HostFacts;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::hierarchy::Hierarchies;
use crate::{addresses, text};

/// What cannot be read is left empty.
pub(crate) fn facts(hierarchies: &Hierarchies, boot_id: &str) -> HostFacts {
    let wanted = RefreshKind::nothing()
        .with_memory(MemoryRefreshKind::nothing().with_ram())
        .with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(wanted).ok();
    HostFacts {
        hostname: hostname(),
        machine_id: machine_id(),
        boot_id: boot_id.to_owned(),
        kernel: System::kernel_version().unwrap_or_default(),
        os: os(),
        architecture: std::env::consts::ARCH.to_owned(),
        cpus: system.as_ref().map_or(0, |s| u32::try_from(s.cpus().len()).unwrap_or(u32::MAX)),
        memory_bytes: system.as_ref().map_or(0, System::total_memory),
        addresses: addresses(),
        cgroups: hierarchies.word().to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        service_manager: if Path::new("/run/systemd/system").is_dir() {
            "systemd"
        } else {
            "none"
        }
        .to_owned(),
    }
}

/// By which others reach this host.
pub(crate) fn addresses() -> Vec<IpAddr> {
    addresses::global_addresses().unwrap_or_default()
}

/// By the kernel's own file: it holds names of 64 characters as well, for which the usual call has no room.
fn hostname() -> String {
    let name = text::read_if_there("/proc/sys/kernel/hostname").ok().flatten();
    name.map(|name| name.trim().to_owned()).unwrap_or_default()
}

fn machine_id() -> String {
    let read = |path| text::read_if_there(path).ok().flatten().map(|id| id.trim().to_owned());
    ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .into_iter()
        .filter_map(read)
        .find(|id| !id.is_empty())
        .unwrap_or_default()
}

/// The distribution's own name for itself, else what the kernel says.
fn os() -> String {
    let release = ["/etc/os-release", "/usr/lib/os-release"]
        .into_iter()
        .find_map(|path| text::read_if_there(path).ok().flatten());
    let pretty = release
        .as_deref()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")));
    match pretty {
        Some(name) => name.trim_matches('"').to_owned(),
        None => System::long_os_version().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_64_characters_is_read_in_full() {
        if tests_notes::lacks_root("to give a host another name") {
            return;
        }
        let name = "a".repeat(64);
        let (given, read) = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS).unwrap();
            nix::unistd::sethostname(&name).unwrap();
            (name, hostname())
        })
        .join()
        .unwrap();
        assert_eq!(read, given);
    }
}
