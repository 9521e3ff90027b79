//! Who lives on a fake host when it starts; nothing happens here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use agent_view::{CpuTicks, GroupId, Listener, Process, ProcessState};

/// The agent's own pid on a fake host.
pub const AGENT_PID: u32 = 700;
pub(super) const CPUS: u32 = 4;
/// The number of the first of these groups.
const FIRST_GROUP: u64 = 100;
/// Folder of a service's group in the unified hierarchy.
const UNIFIED: &str = "/sys/fs/cgroup";
/// Of a kernel without IPv6 that has sent nothing to groups.
const NETSTAT: &str = "IpExt: OutMcastPkts OutBcastPkts\nIpExt: 0 0";

pub(super) fn processes() -> Vec<Process> {
    let mut kernel_thread = process(2, 0, "kthreadd", 0, "/");
    kernel_thread.kernel_thread = true;
    kernel_thread.exe = None;
    kernel_thread.command_line.clear();
    vec![
        process(1, 0, "systemd", 0, "/init.scope"),
        kernel_thread,
        process(400, 1, "sshd", 0, "/system.slice/ssh.service"),
        process(AGENT_PID, 1, "fracas-agent", 0, "/system.slice/fracas-agent.service"),
        process(1_001, 1, "redis-server", 101, "/system.slice/redis-server.service"),
        process(1_002, 1_001, "redis-child", 101, "/system.slice/redis-server.service"),
        process(1_100, 1, "nginx", 0, "/system.slice/nginx.service"),
        process(1_101, 1_100, "nginx", 33, "/system.slice/nginx.service"),
        process(1_102, 1_100, "nginx", 33, "/system.slice/nginx.service"),
        process(1_200, 1, "postgres", 105, "/system.slice/postgresql.service"),
    ]
}

fn process(pid: u32, parent: u32, name: &str, uid: u32, group: &str) -> Process {
    let user = match uid {
        33 => "www-data",
        101 => "redis",
        105 => "postgres",
        _ => "root",
    };
    Process {
        pid,
        start_time: u64::from(pid) * 10,
        parent,
        name: name.to_owned(),
        exe: Some(format!("/usr/bin/{name}")),
        command_line: vec![format!("/usr/bin/{name}"), "--daemonize".to_owned()],
        uid,
        real_uid: uid,
        saved_uid: uid,
        user: Some(user.to_owned()),
        state: ProcessState::Sleeping,
        our_program: false,
        installed_program: true,
        kernel_thread: false,
        groups: vec![group.to_owned()],
        unified: Some(group.to_owned()),
        unread: None,
    }
}

/// Each service's group in the unified hierarchy, and those above it.
pub(super) fn unified(processes: &BTreeMap<u32, Process>) -> BTreeMap<String, u64> {
    let paths = processes.values().filter_map(|process| process.unified.as_deref());
    let above = |path| std::iter::successors(Some(path), |path: &&str| path.rsplit_once('/').map(|(above, _)| above));
    let all: BTreeSet<&str> = paths.flat_map(above).filter(|path| path.len() > 1).collect();
    all.into_iter().map(str::to_owned).zip(FIRST_GROUP..).collect()
}

/// Each service's freezer and list of members, and what the kernel says of itself.
pub(super) fn knobs(processes: &BTreeMap<u32, Process>) -> BTreeMap<String, String> {
    let kernel = [("/proc/sys/kernel/ostype", "Linux"), ("/proc/net/netstat", NETSTAT)];
    let mut knobs: BTreeMap<String, String> = kernel.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    for process in processes.values().filter(|p| p.groups[0].len() > 1) {
        let folder = format!("{UNIFIED}{}", process.groups[0]);
        knobs.entry(format!("{folder}/cgroup.freeze")).or_insert_with(|| "0".to_owned());
        let members = knobs.entry(format!("{folder}/cgroup.procs")).or_default();
        members.push_str(&format!("{}\n", process.pid));
    }
    knobs
}

pub(super) fn listener((port, pid): (u16, u32)) -> Listener {
    Listener {
        port,
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        pid,
    }
}

pub(super) fn idle(cpu: u32) -> CpuTicks {
    CpuTicks {
        cpu,
        busy: 0,
        total: 360_000,
    }
}

/// A worker of ours as the kernel shows one.
pub(crate) fn worker(pid: u32, boot_ms: u64, group: &GroupId) -> Process {
    Process {
        pid,
        start_time: boot_ms / 10,
        parent: AGENT_PID,
        name: "fracas-agent".to_owned(),
        exe: Some("/usr/bin/fracas-agent".to_owned()),
        command_line: vec![group.0.clone(), "worker".to_owned()],
        uid: 0,
        real_uid: 0,
        saved_uid: 0,
        user: Some("root".to_owned()),
        state: ProcessState::Running,
        our_program: true,
        installed_program: true,
        kernel_thread: false,
        groups: vec![format!("/{}", group.0)],
        unified: Some(format!("/{}", group.0)),
        unread: None,
    }
}
