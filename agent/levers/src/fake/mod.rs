//! A host in memory for the suites: seen and changed like a real one, with time that the test moves and steps at which it crashes.

mod goods;
mod host_hands;
mod host_view;
mod paths;
mod populace;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use agent_journal::crash::CrashPlan;
use agent_view::{Clsact, CpuTicks, Feature, GroupId, Listener, Presence, Process, ProcessState, TrafficCounters};
use proto_model::id::InjectionId;

use crate::hands::WorkerSpec;
use crate::traffic::{Spared, TrafficSpec};
use paths::Path;

/// The agent's own pid on a fake host.
pub const AGENT_PID: u32 = 700;
/// Jiffies per second on a fake host.
const TICKS_PER_SECOND: u64 = 100;

/// A handle to one fake host: clones see and change the same one. It is both the view and the hands.
#[derive(Clone)]
pub struct FakeHost {
    state: Arc<Mutex<State>>,
    plan: CrashPlan,
}

#[derive(Debug, Clone)]
struct State {
    boot_ms: u64,
    boot_id: String,
    processes: BTreeMap<u32, Process>,
    next_pid: u32,
    listeners: Vec<Listener>,
    /// Numbers of groups of the unified hierarchy, by their paths.
    unified: BTreeMap<String, u64>,
    groups: BTreeMap<GroupId, Group>,
    workers: BTreeMap<u32, WorkerSpec>,
    knobs: BTreeMap<String, String>,
    traffic: BTreeMap<InjectionId, Traffic>,
    table: bool,
    goods: goods::Goods,
    paths: BTreeMap<InjectionId, Path>,
    /// Interfaces that have a clsact, and whose it is.
    scaffolds: BTreeMap<String, Clsact>,
    ticks: Vec<CpuTicks>,
    interfaces: Vec<String>,
    names: BTreeMap<String, Vec<IpAddr>>,
    mounts: Vec<IpAddr>,
    /// Share of every processor that each worker uses, 0 to 1.
    worker_load: f64,
    /// What this host does not have, or does not tell of.
    lacking: BTreeMap<Feature, Presence>,
    /// Pids that end by nothing but KILL.
    stubborn: BTreeSet<u32>,
    /// Who is forked while one is being stopped, and by whom.
    forks: BTreeMap<u32, Process>,
    undo_calls: u64,
    failing_undo: Option<u64>,
    looks: u64,
    failing_look: Option<u64>,
    deeds: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Group {
    members: BTreeSet<u32>,
    cpu_usec: u64,
}

#[derive(Debug, Clone)]
struct Traffic {
    spec: TrafficSpec,
    spared: Spared,
    gate_until_ms: u64,
    counters: TrafficCounters,
}

/// Everything a lever can touch, as one value to compare; time, counters and load are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint {
    pub processes: BTreeMap<u32, ProcessState>,
    pub groups: BTreeSet<GroupId>,
    pub workers: BTreeSet<u32>,
    pub knobs: BTreeMap<String, String>,
    pub traffic: BTreeSet<InjectionId>,
    pub table: bool,
    /// Files of ours, with their sizes.
    pub files: BTreeMap<PathBuf, u64>,
    pub paths: BTreeSet<InjectionId>,
    pub scaffolds: BTreeSet<String>,
}

impl Default for FakeHost {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeHost {
    /// An ordinary small server: redis, nginx, ssh, four processors, one interface.
    pub fn new() -> Self {
        Self::with_plan(&CrashPlan::new())
    }

    /// The same, whose hands pass a step of `plan` before and after every deed.
    pub fn with_plan(plan: &CrashPlan) -> Self {
        Self {
            state: Arc::new(Mutex::new(populace::state())),
            plan: plan.clone(),
        }
    }

    pub fn plan(&self) -> &CrashPlan {
        &self.plan
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass: processors and workers run, gates of packet rules close.
    pub fn advance(&self, ms: u64) {
        let mut state = self.state();
        state.boot_ms += ms;
        state.spend(ms);
    }

    /// The machine starts anew: what the kernel held is gone, and so is every process of ours.
    pub fn reboot(&self, boot_id: &str) {
        let mut state = self.state();
        let (knobs, goods) = (state.knobs.clone(), state.goods.kept());
        *state = State {
            knobs,
            goods,
            ..populace::state()
        };
        state.boot_id = boot_id.to_owned();
        state.boot_ms = 1_000;
    }

    pub fn add_process(&self, process: Process) {
        self.state().processes.insert(process.pid, process);
    }

    pub fn add_listener(&self, listener: Listener) {
        self.state().listeners.push(listener);
    }

    /// As somebody with `kill -9` would do it.
    pub fn kill(&self, pid: u32) {
        self.state().end(pid);
    }

    pub fn set_presence(&self, feature: Feature, presence: Presence) {
        self.state().lacking.insert(feature, presence);
    }

    /// Just before this one is stopped, it forks another.
    pub fn forks_when_stopped(&self, pid: u32, child: Process) {
        self.state().forks.insert(pid, child);
    }

    /// From now on this one ends by nothing but KILL.
    pub fn make_stubborn(&self, pid: u32) {
        self.state().stubborn.insert(pid);
    }

    /// As somebody else would do it, behind our back.
    pub fn set_state(&self, pid: u32, to: ProcessState) {
        if let Some(process) = self.state().processes.get_mut(&pid) {
            process.state = to;
        }
    }

    pub fn set_knob(&self, path: &str, value: &str) {
        self.state().knobs.insert(path.to_owned(), value.to_owned());
    }

    pub fn remove_knob(&self, path: &str) {
        self.state().knobs.remove(path);
    }

    pub fn set_name(&self, name: &str, addresses: Vec<IpAddr>) {
        self.state().names.insert(name.to_owned(), addresses);
    }

    /// The group at this path of the unified hierarchy is made anew with this number, or is gone.
    pub fn set_group(&self, path: &str, id: Option<u64>) {
        let groups = &mut self.state().unified;
        match id {
            Some(id) => groups.insert(path.to_owned(), id),
            None => groups.remove(path),
        };
    }

    pub fn set_network_mounts(&self, addresses: Vec<IpAddr>) {
        self.state().mounts = addresses;
    }

    /// The share of every processor, 0 to 1, that each worker uses from now on.
    pub fn set_worker_load(&self, share: f64) {
        self.state().worker_load = share.clamp(0.0, 1.0);
    }

    /// Packets that meet the injection's rule.
    pub fn hit_traffic(&self, injection: &InjectionId, packets: u64) {
        if let Some(traffic) = self.state().traffic.get_mut(injection) {
            traffic.counters.hit_packets += packets;
            traffic.counters.hit_bytes += packets * 60;
        }
    }

    /// Packets that should have met the rule and came through.
    pub fn pass_traffic(&self, injection: &InjectionId, packets: u64) {
        if let Some(traffic) = self.state().traffic.get_mut(injection) {
            traffic.counters.passed.packets += packets;
            traffic.counters.passed.bytes += packets * 60;
        }
    }

    pub fn traffic_spec(&self, injection: &InjectionId) -> Option<TrafficSpec> {
        self.state().traffic.get(injection).map(|traffic| traffic.spec.clone())
    }

    /// What the rules or the path of an injection leave alone.
    pub fn spared(&self, injection: &InjectionId) -> Option<Spared> {
        let state = self.state();
        let by_rules = state.traffic.get(injection).map(|traffic| &traffic.spared);
        by_rules.or_else(|| state.paths.get(injection)?.spared.as_ref()).cloned()
    }

    /// Pids of living workers, with what they were told.
    pub fn workers(&self) -> BTreeMap<u32, WorkerSpec> {
        self.state().workers.clone()
    }

    /// Makes the `n`-th call from now, from 1, that undoes something fail, once.
    pub fn fail_nth_undo(&self, n: u64) {
        let mut state = self.state();
        state.undo_calls = 0;
        state.failing_undo = Some(n);
    }

    /// Makes the `n`-th look from now, from 1, fail, once; with `None` all looks succeed. Returns how many looks there were.
    pub fn fail_nth_look(&self, n: Option<u64>) -> u64 {
        let mut state = self.state();
        state.failing_look = n;
        std::mem::take(&mut state.looks)
    }

    /// Everything that was done to this host, in order.
    pub fn deeds(&self) -> Vec<String> {
        self.state().deeds.clone()
    }

    pub fn footprint(&self) -> Footprint {
        let state = self.state();
        let strangers = state.processes.values().filter(|p| !state.workers.contains_key(&p.pid));
        Footprint {
            processes: strangers.map(|p| (p.pid, p.state)).collect(),
            groups: state.groups.keys().cloned().collect(),
            workers: state.workers.keys().copied().collect(),
            knobs: state.knobs.clone(),
            traffic: state.traffic.keys().cloned().collect(),
            table: state.table,
            files: state
                .goods
                .files
                .iter()
                .map(|(path, file)| (path.clone(), file.allocated))
                .collect(),
            paths: state.paths.keys().cloned().collect(),
            scaffolds: state.scaffolds.keys().cloned().collect(),
        }
    }
}

impl State {
    fn end(&mut self, pid: u32) {
        self.processes.remove(&pid);
        self.forget_memory(pid);
        self.workers.remove(&pid);
        self.listeners.retain(|listener| listener.pid != pid);
        for group in self.groups.values_mut() {
            group.members.remove(&pid);
        }
    }

    fn spend(&mut self, ms: u64) {
        let cpus = self.ticks.len() as u64;
        let load = self.worker_load;
        let mut running = 0.0;
        for group in self.groups.values_mut() {
            running += group.members.len() as f64;
            group.cpu_usec += (group.members.len() as f64 * load * (ms * 1_000 * cpus) as f64) as u64;
        }
        let ticks = ms * TICKS_PER_SECOND / 1_000;
        let busy = ((running * load).min(1.0) * ticks as f64) as u64;
        for cpu in &mut self.ticks {
            cpu.total += ticks;
            cpu.busy += busy;
        }
    }
}
