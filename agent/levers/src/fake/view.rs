//! Looking at a fake host; as on a real one, it changes nothing.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use agent_view::{
    CpuTicks, Feature, Features, FileFound, FileSeen, GroupId, HostView, Listener, Memory, PacketQueue, PathCounters, PathInterface,
    PathThing, Presence, Process, ProcessMemory, ProcessStat, TrafficCounters, UnifiedGroup, ViewError, Volume,
};
use proto_model::host::HostFacts;
use proto_model::id::InjectionId;
use proto_model::peer::Network;

use super::fixtures::AGENT_PID;
use super::host::{FakeHost, State};
use crate::work::packets::{Echoes, PacketNote};

impl FakeHost {
    /// One look, counted; the one that is to fail sees nothing.
    fn look<T>(&self, what: &str, see: impl FnOnce(&State) -> T) -> Result<T, ViewError> {
        let mut state = self.state();
        state.looks += 1;
        if state.failing_look == Some(state.looks) {
            return Err(ViewError::new(what, io::Error::from_raw_os_error(libc::EIO)));
        }
        Ok(see(&state))
    }
}

/// So many looks may hang at a time.
const MOST_HANGING: usize = 8;

/// As a view of Linux says it where too many looks hang.
fn refused(state: &State) -> Option<ViewError> {
    let first = state.hanging.first().filter(|_| state.hanging.len() >= MOST_HANGING)?;
    let text = format!("not looked at: no answer within 2.0 s from process {first} and others");
    Some(ViewError::new("the processes", io::Error::new(io::ErrorKind::TimedOut, text)))
}

/// As a view of Linux lists one: where a look at it hangs, with what the kernel keeps of it.
fn listed(process: &Process, state: &State) -> Process {
    if !state.hanging.contains(&process.pid) {
        return process.clone();
    }
    let why = "gave no answer within 2.0 s: its program or its memory lies on a mount that hangs (fix: end the process)";
    Process {
        command_line: Vec::new(),
        our_program: false,
        installed_program: false,
        unread: Some(format!("process {} ({}) {why}", process.pid, process.name)),
        ..process.clone()
    }
}

impl Features for FakeHost {
    fn presence(&self, feature: Feature) -> Presence {
        self.state().lacking.get(&feature).cloned().unwrap_or(Presence::Present)
    }
}

impl HostView for FakeHost {
    fn boot_ms(&self) -> u64 {
        self.state().boot_ms
    }

    fn boot_id(&self) -> String {
        self.state().boot_id.clone()
    }

    fn facts(&self) -> HostFacts {
        let state = self.state();
        HostFacts {
            hostname: "fake".to_owned(),
            machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
            boot_id: state.boot_id.clone(),
            kernel: "6.1.0".to_owned(),
            os: "Fake Linux 1".to_owned(),
            architecture: "x86_64".to_owned(),
            cpus: u32::try_from(state.ticks.len()).unwrap_or(u32::MAX),
            memory_bytes: 8 << 30,
            addresses: state.addresses.clone(),
            cgroups: "v2".to_owned(),
            agent_version: "0.0.0".to_owned(),
            service_manager: "none".to_owned(),
        }
    }

    fn processes(&self) -> Result<Vec<Process>, ViewError> {
        let all = |state: &State| -> Vec<Process> { state.processes.values().map(|process| listed(process, state)).collect() };
        self.look("processes", |state| refused(state).map_or_else(|| Ok(all(state)), Err))?
    }

    fn process(&self, pid: u32) -> Result<Option<Process>, ViewError> {
        let one = |state: &State| state.processes.get(&pid).map(|process| listed(process, state));
        self.look("a process", |state| refused(state).map_or_else(|| Ok(one(state)), Err))?
    }

    fn process_stat(&self, pid: u32) -> Result<Option<ProcessStat>, ViewError> {
        self.look("a process", |state| state.processes.get(&pid).map(Process::stat))
    }

    fn listeners(&self) -> Result<Vec<Listener>, ViewError> {
        self.look("listeners", |state| state.listeners.clone())
    }

    fn own_pid(&self) -> u32 {
        AGENT_PID
    }

    fn worker_uid(&self) -> Option<u32> {
        self.state().worker_uid
    }

    fn cpu_ticks(&self) -> Result<Vec<CpuTicks>, ViewError> {
        self.look("processor times", |state| state.ticks.clone())
    }

    fn usable_cpus(&self) -> Result<Vec<u32>, ViewError> {
        self.look("usable processors", |state| state.ticks.iter().map(|t| t.cpu).collect())
    }

    fn cpu_quota(&self) -> Option<f64> {
        self.state().cpu_quota
    }

    fn our_groups(&self) -> Result<Vec<GroupId>, ViewError> {
        self.look("groups", |state| state.groups.keys().cloned().collect())
    }

    fn group_root(&self) -> String {
        String::new()
    }

    fn group_members(&self, group: &GroupId) -> Result<Vec<u32>, ViewError> {
        self.look("members of a group", |state| {
            let group = state.groups.get(group);
            group.map(|g| g.members.iter().copied().collect()).unwrap_or_default()
        })
    }

    fn unified_group(&self, path: &str) -> Result<Option<UnifiedGroup>, ViewError> {
        let level = u32::try_from(path.split('/').filter(|part| !part.is_empty()).count()).unwrap_or(u32::MAX);
        self.look("a unified group", |state| {
            state.unified.get(path).map(|id| UnifiedGroup { id: *id, level })
        })
    }

    fn unit_alias(&self, unit: &str) -> Option<String> {
        self.state().unit_aliases.get(unit).cloned()
    }

    fn group_cpu_usec(&self, group: &GroupId) -> Result<Option<u64>, ViewError> {
        self.look("processor time of a group", |state| state.groups.get(group).map(|g| g.cpu_usec))
    }

    fn knob(&self, path: &str) -> Result<Option<String>, ViewError> {
        self.look("a knob", |state| match path.strip_suffix("/cgroup.events") {
            Some(folder) => {
                let frozen = state.knobs.get(&format!("{folder}/cgroup.freeze"));
                frozen.map(|frozen| format!("populated 1\nfrozen {frozen}"))
            }
            None => state.knobs.get(path).cloned(),
        })
    }

    fn memory(&self) -> Result<Memory, ViewError> {
        self.look("memory", |state| state.resources.memory)
    }

    fn process_memory(&self, pid: u32) -> Result<Option<ProcessMemory>, ViewError> {
        self.look("memory of a process", |state| {
            let lives = state.processes.contains_key(&pid);
            lives.then(|| state.resources.workers.get(&pid).copied().unwrap_or_default())
        })
    }

    fn oom_kills(&self, _group: &GroupId) -> Result<u64, ViewError> {
        self.look("kills for want of memory", |state| state.resources.oom_kills)
    }

    fn volume(&self, path: &Path) -> Result<Option<Volume>, ViewError> {
        self.look("a volume", |state| state.resources.volume(path))
    }

    fn host_may_write(&self, path: &Path) -> bool {
        let state = self.state();
        state.resources.written_by_the_host.iter().any(|point| path.starts_with(point))
    }

    fn file(&self, path: &Path) -> Result<Option<FileSeen>, ViewError> {
        self.look("a file", |state| state.resources.files.get(path).copied())
    }

    fn file_by_handle(&self, volume: &Path, _near: &Path, _kind: i32, bytes: &[u8]) -> Result<Option<FileFound>, ViewError> {
        self.look("a file by its handle", |state| state.resources.by_handle(volume, bytes))
    }

    fn traffic(&self, injection: &InjectionId) -> Result<Option<TrafficCounters>, ViewError> {
        self.look("packet rules of an injection", |state| {
            state.traffic.get(injection).map(|traffic| TrafficCounters {
                gate_open: traffic.gate_until_ms > state.boot_ms,
                ..traffic.counters
            })
        })
    }

    fn our_traffic(&self) -> Result<Vec<InjectionId>, ViewError> {
        self.look("packet rules", |state| state.traffic.keys().cloned().collect())
    }

    fn our_table(&self) -> Result<bool, ViewError> {
        self.look("the packet table", |state| state.table)
    }

    /// Each worker reads the queues that it was told to read.
    fn packet_queues(&self) -> Result<Vec<PacketQueue>, ViewError> {
        let state = self.state();
        let orders = state.workers.values().filter_map(|spec| spec.params["queues"].as_object());
        let numbers = orders.flat_map(|queues| queues.values()).filter_map(serde_json::Value::as_u64);
        let numbers = numbers.filter_map(|number| u16::try_from(number).ok());
        Ok(numbers.map(|number| PacketQueue { number, waiting: 0 }).collect())
    }

    /// Those that work on packets, or time a way to a peer, tell so; every way takes a fifth of a millisecond here.
    fn worker_note(&self, pid: u32) -> Result<Option<String>, ViewError> {
        let state = self.state();
        let tells = |key| state.workers.get(&pid).is_some_and(|spec| spec.params.get(key).is_some());
        let note = PacketNote {
            beat_ms: state.boot_ms,
            echoes: Some(Echoes {
                before_us: Some(200),
                ..Echoes::default()
            }),
            ..PacketNote::default()
        };
        Ok((tells("times") || tells("queues")).then(|| serde_json::to_string(&note).unwrap_or_default()))
    }

    fn path_interfaces(&self, peers: &[Network], named: Option<&str>) -> Result<Vec<PathInterface>, ViewError> {
        self.look("interfaces on the way", |state| state.path_interfaces(peers, named))
    }

    fn path(&self, injection: &InjectionId) -> Result<Option<PathCounters>, ViewError> {
        self.look("a path", |state| state.path_counters(injection))
    }

    fn our_paths(&self) -> Result<Vec<PathThing>, ViewError> {
        self.look("paths", |state| state.path_things())
    }

    fn interfaces(&self) -> Result<Vec<String>, ViewError> {
        self.look("interfaces", |state| state.interfaces.clone())
    }

    fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ViewError> {
        let known = self.look("a name", |state| state.names.get(name).cloned())?;
        known.ok_or_else(|| ViewError::new(format!("the addresses of {name}"), io::ErrorKind::NotFound.into()))
    }

    fn network_mount_addresses(&self) -> Result<Vec<IpAddr>, ViewError> {
        self.look("network mounts", |state| state.mounts.clone())
    }
}
