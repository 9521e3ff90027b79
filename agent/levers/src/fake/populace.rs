//! Who lives on a fake host when it starts; nothing happens here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use agent_view::{CpuTicks, Listener, Process, ProcessState};

use super::{AGENT_PID, State};

const CPUS: u32 = 4;
/// The number of the first of these groups.
const FIRST_GROUP: u64 = 100;
/// Folder of a service's group in the unified hierarchy.
const UNIFIED: &str = "/sys/fs/cgroup";

pub(super) fn state() -> State {
    let processes: BTreeMap<u32, Process> = processes().into_iter().map(|p| (p.pid, p)).collect();
    State {
        boot_ms: 3_600_000,
        boot_id: "0f0e0d0c-1111-4222-8333-444455556666".to_owned(),
        knobs: knobs(&processes),
        unified: unified(&processes),
        processes,
        next_pid: 5_000,
        listeners: [(22, 400), (6379, 1_001), (80, 1_100), (80, 1_101)].map(listener).to_vec(),
        groups: BTreeMap::new(),
        workers: BTreeMap::new(),
        traffic: BTreeMap::new(),
        table: false,
        goods: super::goods::Goods::default(),
        paths: BTreeMap::new(),
        scaffolds: BTreeMap::new(),
        ticks: (0..CPUS).map(idle).collect(),
        interfaces: vec!["eth0".to_owned(), "lo".to_owned()],
        names: BTreeMap::from([("db.example".to_owned(), vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10))])]),
        mounts: Vec::new(),
        worker_load: 1.0,
        lacking: BTreeMap::new(),
        stubborn: BTreeSet::new(),
        forks: BTreeMap::new(),
        undo_calls: 0,
        failing_undo: None,
        looks: 0,
        failing_look: None,
        deeds: Vec::new(),
    }
}

fn processes() -> Vec<Process> {
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
        user: Some(user.to_owned()),
        state: ProcessState::Sleeping,
        our_program: false,
        kernel_thread: false,
        groups: vec![group.to_owned()],
        unified: Some(group.to_owned()),
    }
}

/// Each service's group in the unified hierarchy, and those above it.
fn unified(processes: &BTreeMap<u32, Process>) -> BTreeMap<String, u64> {
    let paths = processes.values().filter_map(|process| process.unified.as_deref());
    let above = |path| std::iter::successors(Some(path), |path: &&str| path.rsplit_once('/').map(|(above, _)| above));
    let all: BTreeSet<&str> = paths.flat_map(above).filter(|path| path.len() > 1).collect();
    all.into_iter().map(str::to_owned).zip(FIRST_GROUP..).collect()
}

/// Each service's freezer and list of members.
fn knobs(processes: &BTreeMap<u32, Process>) -> BTreeMap<String, String> {
    let mut knobs = BTreeMap::from([("/proc/sys/kernel/ostype".to_owned(), "Linux".to_owned())]);
    for process in processes.values().filter(|p| p.groups[0].len() > 1) {
        let folder = format!("{UNIFIED}{}", process.groups[0]);
        knobs.entry(format!("{folder}/cgroup.freeze")).or_insert_with(|| "0".to_owned());
        let members = knobs.entry(format!("{folder}/cgroup.procs")).or_default();
        members.push_str(&format!("{}\n", process.pid));
    }
    knobs
}

fn listener((port, pid): (u16, u32)) -> Listener {
    Listener {
        port,
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        pid,
    }
}

fn idle(cpu: u32) -> CpuTicks {
    CpuTicks {
        cpu,
        busy: 0,
        total: 360_000,
    }
}
