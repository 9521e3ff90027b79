//! The host of paper: a clock, one knob, groups; it can be told to fail.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use agent_journal::{Ballast, ScaffoldPlace, Victim};
use agent_levers::{
    Hands, HandsError, KillSignal, Made, Packets, PathOpening, PathSpec, ScaffoldLeft, Shape, Spared, TrafficSpec, WorkerSpec,
};
use agent_view::{
    CpuTicks, FileFound, FileSeen, GroupId, HostView, Listener, Memory, PathCounters, PathInterface, PathThing, Process, ProcessMemory,
    TrafficCounters, ViewError, Volume,
};
use proto_model::host::HostFacts;
use proto_model::id::InjectionId;
use proto_model::peer::Network;

/// The one thing that the test kinds change.
pub const KNOB: &str = "/sys/fs/cgroup/test/cgroup.freeze";

#[derive(Clone, Default)]
pub struct Host(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    boot_ms: u64,
    boot_id: String,
    knobs: BTreeMap<String, String>,
    traffic: Vec<InjectionId>,
    gate_ms: Option<u64>,
    spared: Option<Spared>,
    mounts: Vec<IpAddr>,
    failing_writes: u32,
}

impl Host {
    pub fn new() -> Self {
        let host = Self::default();
        *host.state() = State {
            boot_ms: 1_000_000,
            boot_id: "boot-1".into(),
            knobs: BTreeMap::from([(KNOB.to_owned(), "calm".to_owned())]),
            ..State::default()
        };
        host
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn advance(&self, ms: u64) {
        self.state().boot_ms += ms;
    }

    pub fn reboot(&self) {
        let mut state = self.state();
        (state.boot_id, state.boot_ms) = ("boot-2".into(), 100);
    }

    pub fn knob_now(&self) -> String {
        self.state().knobs[KNOB].clone()
    }

    pub fn set_knob(&self, value: &str) {
        self.state().knobs.insert(KNOB.into(), value.into());
    }

    /// The next so many writes fail.
    pub fn fail_writes(&self, times: u32) {
        self.state().failing_writes = times;
    }

    /// What the last rules leave alone.
    pub fn spared(&self) -> Option<Spared> {
        self.state().spared.clone()
    }

    pub fn set_network_mounts(&self, addresses: Vec<IpAddr>) {
        self.state().mounts = addresses;
    }

    /// What the kernel was last told to hold by itself.
    pub fn gate_ms(&self) -> Option<u64> {
        self.state().gate_ms
    }
}

impl HostView for Host {
    fn boot_ms(&self) -> u64 {
        self.state().boot_ms
    }
    fn boot_id(&self) -> String {
        self.state().boot_id.clone()
    }
    fn facts(&self) -> HostFacts {
        HostFacts::default()
    }
    fn processes(&self) -> Result<Vec<Process>, ViewError> {
        Ok(Vec::new())
    }
    fn process(&self, _pid: u32) -> Result<Option<Process>, ViewError> {
        Ok(None)
    }
    fn listeners(&self) -> Result<Vec<Listener>, ViewError> {
        Ok(Vec::new())
    }
    fn own_pid(&self) -> u32 {
        4_000
    }
    fn cpu_ticks(&self) -> Result<Vec<CpuTicks>, ViewError> {
        Ok(Vec::new())
    }
    fn usable_cpus(&self) -> Result<Vec<u32>, ViewError> {
        Ok(vec![0])
    }
    fn our_groups(&self) -> Result<Vec<GroupId>, ViewError> {
        Ok(Vec::new())
    }
    fn group_members(&self, _group: &GroupId) -> Result<Vec<u32>, ViewError> {
        Ok(Vec::new())
    }
    fn group_cpu_usec(&self, _group: &GroupId) -> Result<Option<u64>, ViewError> {
        Ok(None)
    }
    fn knob(&self, path: &str) -> Result<Option<String>, ViewError> {
        Ok(self.state().knobs.get(path).cloned())
    }
    fn memory(&self) -> Result<Memory, ViewError> {
        Ok(Memory::default())
    }
    fn process_memory(&self, _pid: u32) -> Result<Option<ProcessMemory>, ViewError> {
        Ok(None)
    }
    fn oom_kills(&self, _group: &GroupId) -> Result<u64, ViewError> {
        Ok(0)
    }
    fn volume(&self, _path: &Path) -> Result<Option<Volume>, ViewError> {
        Ok(None)
    }
    fn file(&self, _path: &Path) -> Result<Option<FileSeen>, ViewError> {
        Ok(None)
    }
    fn file_by_handle(&self, _volume: &Path, _near: &Path, _kind: i32, _bytes: &[u8]) -> Result<Option<FileFound>, ViewError> {
        Ok(None)
    }
    fn traffic(&self, injection: &InjectionId) -> Result<Option<TrafficCounters>, ViewError> {
        Ok(self.state().traffic.contains(injection).then(TrafficCounters::default))
    }
    fn our_traffic(&self) -> Result<Vec<InjectionId>, ViewError> {
        Ok(self.state().traffic.clone())
    }
    fn our_table(&self) -> Result<bool, ViewError> {
        Ok(false)
    }
    fn path_interfaces(&self, _peers: &[Network], _named: Option<&str>) -> Result<Vec<PathInterface>, ViewError> {
        Ok(Vec::new())
    }
    fn path(&self, _injection: &InjectionId) -> Result<Option<PathCounters>, ViewError> {
        Ok(None)
    }
    fn our_paths(&self) -> Result<Vec<PathThing>, ViewError> {
        Ok(Vec::new())
    }
    fn interfaces(&self) -> Result<Vec<String>, ViewError> {
        Ok(Vec::new())
    }
    fn resolve(&self, _name: &str) -> Result<Vec<IpAddr>, ViewError> {
        Ok(Vec::new())
    }
    fn network_mount_addresses(&self) -> Result<Vec<IpAddr>, ViewError> {
        Ok(self.state().mounts.clone())
    }
}

impl Hands for Host {
    fn make_group(&mut self, _group: &GroupId) -> Result<(), HandsError> {
        Ok(())
    }
    fn start_worker(&mut self, _group: &GroupId, _spec: &WorkerSpec) -> Result<u32, HandsError> {
        Ok(1)
    }
    fn drain_group(&mut self, _group: &GroupId, _wait_ms: u64) -> Result<usize, HandsError> {
        Ok(0)
    }
    fn end_group(&mut self, _group: &GroupId, _wait_ms: u64) -> Result<bool, HandsError> {
        Ok(true)
    }
    fn remove_group(&mut self, _group: &GroupId) -> Result<(), HandsError> {
        Ok(())
    }
    fn stop_process(&mut self, _victim: &Victim) -> Result<bool, HandsError> {
        Ok(false)
    }
    fn continue_process(&mut self, _victim: &Victim) -> Result<bool, HandsError> {
        Ok(false)
    }
    fn signal_process(&mut self, _victim: &Victim, _signal: KillSignal) -> Result<bool, HandsError> {
        Ok(true)
    }
    fn write_knob(&mut self, path: &str, value: &str) -> Result<(), HandsError> {
        let mut state = self.state();
        if state.failing_writes > 0 {
            state.failing_writes -= 1;
            return Err(HandsError::new(format!("write {path}"), io::Error::other("told to fail")));
        }
        state.knobs.insert(path.into(), value.into());
        Ok(())
    }
    fn make_ballast(&mut self, _ballast: &Ballast) -> Result<Made, HandsError> {
        Ok(Made { inode: 1, handle: None })
    }
    fn grow_ballast(&mut self, _ballast: &Ballast, _bytes: u64) -> Result<bool, HandsError> {
        Ok(true)
    }
    fn remove_ballast(&mut self, _ballast: &Ballast) -> Result<bool, HandsError> {
        Ok(false)
    }
    fn remove_moved_ballast(&mut self, _ballast: &Ballast, _volume: &Path, _name: Option<&Path>) -> Result<bool, HandsError> {
        Ok(false)
    }
    fn add_traffic(&mut self, injection: &InjectionId, spec: &TrafficSpec, spared: &Spared) -> Result<(), HandsError> {
        let mut state = self.state();
        (state.gate_ms, state.spared) = (Some(spec.gate_ms), Some(spared.clone()));
        state.traffic.push(injection.clone());
        Ok(())
    }
    fn renew_traffic(&mut self, _injection: &InjectionId, gate_ms: u64) -> Result<(), HandsError> {
        self.state().gate_ms = Some(gate_ms);
        Ok(())
    }
    fn replace_peers(&mut self, _injection: &InjectionId, _spec: &TrafficSpec) -> Result<(), HandsError> {
        Ok(())
    }
    fn remove_traffic(&mut self, injection: &InjectionId) -> Result<bool, HandsError> {
        let mut state = self.state();
        let had = state.traffic.contains(injection);
        state.traffic.retain(|id| id != injection);
        Ok(had)
    }
    fn remove_idle_table(&mut self) -> Result<bool, HandsError> {
        Ok(true)
    }
    fn make_scaffold(&mut self, _place: &ScaffoldPlace) -> Result<(), HandsError> {
        Ok(())
    }
    fn remove_scaffold(&mut self, _place: &ScaffoldPlace) -> Result<ScaffoldLeft, HandsError> {
        Ok(ScaffoldLeft::Gone)
    }
    fn make_path(&mut self, _injection: &InjectionId, _shape: &Shape) -> Result<(), HandsError> {
        Ok(())
    }
    fn open_path(&mut self, _injection: &InjectionId, _spec: &PathSpec, _opening: &PathOpening) -> Result<(), HandsError> {
        Ok(())
    }
    fn renew_path(&mut self, _injection: &InjectionId, gate_ms: u64) -> Result<(), HandsError> {
        self.state().gate_ms = Some(gate_ms);
        Ok(())
    }
    fn replace_path_peers(&mut self, _injection: &InjectionId, _packets: &Packets, _spared: &Spared) -> Result<(), HandsError> {
        Ok(())
    }
    fn close_path(&mut self, _injection: &InjectionId) -> Result<bool, HandsError> {
        Ok(false)
    }
    fn drain_path(&mut self, _injection: &InjectionId, _wait_ms: u64) -> Result<u64, HandsError> {
        Ok(0)
    }
    fn remove_path(&mut self, _injection: &InjectionId) -> Result<bool, HandsError> {
        Ok(false)
    }
}
