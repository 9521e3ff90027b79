//! A host in memory: what is on it, what is done to it, and the time that a test moves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_journal::crash::CrashPlan;
use agent_view::{Clsact, CpuTicks, Feature, GroupId, Listener, Presence, Process, ProcessState, TrafficCounters};
use proto_model::id::InjectionId;
use proto_model::peer::Network;

use super::fixtures::{self, CPUS};
use super::paths::Path;
use super::resources::Resources;
use crate::error::OpsError;
use crate::spawn::WorkerSpec;
use crate::traffic::{Exemptions, TrafficSpec};

/// Jiffies per second on a fake host.
const TICKS_PER_SECOND: u64 = 100;

/// A handle to one fake host: clones see and change the same one. It is both the view and the hands.
#[derive(Clone)]
pub struct FakeHost {
    state: Arc<Mutex<State>>,
    plan: CrashPlan,
}

#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) boot_ms: u64,
    pub(crate) boot_id: String,
    pub(crate) processes: BTreeMap<u32, Process>,
    pub(crate) next_pid: u32,
    pub(crate) listeners: Vec<Listener>,
    /// Numbers of groups of the unified hierarchy, by their paths.
    pub(crate) unified: BTreeMap<String, u64>,
    pub(crate) unit_aliases: BTreeMap<String, String>,
    pub(crate) cpu_quota: Option<f64>,
    pub(crate) groups: BTreeMap<GroupId, Group>,
    pub(crate) workers: BTreeMap<u32, WorkerSpec>,
    pub(crate) knobs: BTreeMap<String, String>,
    pub(crate) traffic: BTreeMap<InjectionId, Traffic>,
    pub(crate) table: bool,
    pub(crate) resources: Resources,
    pub(crate) paths: BTreeMap<InjectionId, Path>,
    /// Interfaces that have a clsact, and whose it is.
    pub(crate) clsacts: BTreeMap<String, Clsact>,
    pub(crate) ticks: Vec<CpuTicks>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) interfaces: Vec<String>,
    /// The one network of an interface that is not on the way to every peer.
    pub(crate) behind: BTreeMap<String, Network>,
    pub(crate) names: BTreeMap<String, Vec<IpAddr>>,
    pub(crate) mounts: Vec<IpAddr>,
    /// Share of every processor that each worker uses, 0 to 1.
    pub(crate) worker_load: f64,
    /// What this host does not have, or does not tell of.
    pub(crate) lacking: BTreeMap<Feature, Presence>,
    /// Pids that end by nothing but KILL.
    pub(crate) stubborn: BTreeSet<u32>,
    /// Who is forked while one is being stopped, and by whom.
    pub(crate) forks: BTreeMap<u32, Process>,
    pub(crate) undo_calls: u64,
    pub(crate) failing_undo: Option<u64>,
    pub(crate) failing_writes: u32,
    /// Groups cannot be removed.
    pub(crate) lasting_groups: bool,
    pub(crate) looks: u64,
    pub(crate) failing_look: Option<u64>,
    /// Those at which looks do not come back.
    pub(crate) hanging: BTreeSet<u32>,
    /// The user that workers become.
    pub(crate) worker_uid: Option<u32>,
    pub(crate) calls: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) members: BTreeSet<u32>,
    pub(crate) cpu_usec: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    pub(crate) spec: TrafficSpec,
    pub(crate) exemptions: Exemptions,
    pub(crate) gate_until_ms: u64,
    pub(crate) counters: TrafficCounters,
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
    pub clsacts: BTreeSet<String>,
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
            state: Arc::new(Mutex::new(fixture())),
            plan: plan.clone(),
        }
    }

    pub fn plan(&self) -> &CrashPlan {
        &self.plan
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
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
        let (knobs, resources) = (state.knobs.clone(), state.resources.kept());
        *state = State {
            knobs,
            resources,
            ..fixture()
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

    pub fn set_cpu_quota(&self, processors: Option<f64>) {
        self.state().cpu_quota = processors;
    }

    pub fn set_unit_alias(&self, alias: &str, unit: &str) {
        self.state().unit_aliases.insert(alias.to_owned(), unit.to_owned());
    }

    pub fn set_addresses(&self, addresses: Vec<IpAddr>) {
        self.state().addresses = addresses;
    }

    /// Adds an interface that is passed by packets of peers in this network alone.
    pub fn add_interface(&self, name: &str, network: Network) {
        let mut state = self.state();
        state.interfaces.push(name.to_owned());
        state.behind.insert(name.to_owned(), network);
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
    pub fn exemptions(&self, injection: &InjectionId) -> Option<Exemptions> {
        let state = self.state();
        let by_rules = state.traffic.get(injection).map(|traffic| &traffic.exemptions);
        by_rules.or_else(|| state.paths.get(injection)?.exemptions.as_ref()).cloned()
    }

    /// Pids of living workers, with what they were told.
    pub fn workers(&self) -> BTreeMap<u32, WorkerSpec> {
        self.state().workers.clone()
    }

    /// How long the kernel goes on to hold the rules of an injection unless they are renewed.
    pub fn gate_left_ms(&self, injection: &InjectionId) -> Option<u64> {
        let state = self.state();
        let traffic = state.traffic.get(injection)?;
        Some(traffic.gate_until_ms.saturating_sub(state.boot_ms))
    }

    /// The next so many knobs cannot be written.
    pub fn fail_writes(&self, times: u32) {
        self.state().failing_writes = times;
    }

    /// As long as this is set no group can be removed, as with a process in it that does not end.
    pub fn keep_groups(&self, kept: bool) {
        self.state().lasting_groups = kept;
    }

    /// Makes the `n`-th call from now, from 1, that undoes something fail, once.
    pub fn fail_nth_undo(&self, n: u64) {
        let mut state = self.state();
        state.undo_calls = 0;
        state.failing_undo = Some(n);
    }

    /// Whether the call that was to fail has been made.
    pub fn undo_has_failed(&self) -> bool {
        self.state().failing_undo.is_none()
    }

    /// Makes the `n`-th look from now, from 1, fail, once; with `None` all looks succeed. Returns how many looks there were.
    pub fn fail_nth_look(&self, n: Option<u64>) -> u64 {
        let mut state = self.state();
        state.failing_look = n;
        std::mem::take(&mut state.looks)
    }

    /// Looks at the programs of these, and of no others, are not answered in time from now on, as on a mount that hangs. Of eight or more, no
    /// process is looked at.
    pub fn hang_programs(&self, pids: impl IntoIterator<Item = u32>) {
        self.state().hanging = pids.into_iter().collect();
    }

    /// Workers become this user from now on.
    pub fn set_worker_uid(&self, uid: u32) {
        self.state().worker_uid = Some(uid);
    }

    /// Everything that was done to this host, in order.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    pub fn footprint(&self) -> Footprint {
        let state = self.state();
        let foreign_filters = state.processes.values().filter(|p| !state.workers.contains_key(&p.pid));
        Footprint {
            processes: foreign_filters.map(|p| (p.pid, p.state)).collect(),
            groups: state.groups.keys().cloned().collect(),
            workers: state.workers.keys().copied().collect(),
            knobs: state.knobs.clone(),
            traffic: state.traffic.keys().cloned().collect(),
            table: state.table,
            files: state
                .resources
                .files
                .iter()
                .map(|(path, file)| (path.clone(), file.allocated))
                .collect(),
            paths: state.paths.keys().cloned().collect(),
            clsacts: state.clsacts.keys().cloned().collect(),
        }
    }
}

impl State {
    pub(crate) fn end(&mut self, pid: u32) {
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

impl FakeHost {
    /// A call that changes the host: a step before it and a step after it, so that a suite can end the process at either.
    pub(crate) fn call<T>(&self, action: &str, act: impl FnOnce(&mut State) -> io::Result<T>) -> Result<T, OpsError> {
        let crashed = |e| OpsError::new(action, io::Error::other(e));
        self.plan.pass(&format!("before: {action}")).map_err(crashed)?;
        let done = {
            let mut state = self.state();
            let done = act(&mut state).map_err(|e| OpsError::new(action, e))?;
            state.calls.push(action.to_owned());
            done
        };
        self.plan.pass(&format!("after: {action}")).map_err(crashed)?;
        Ok(done)
    }

    /// A deed that takes something back: the one that is to fail does nothing.
    pub(crate) fn undo<T>(&self, action: &str, act: impl FnOnce(&mut State) -> io::Result<T>) -> Result<T, OpsError> {
        self.call(action, |state| {
            state.undo_calls += 1;
            if state.failing_undo == Some(state.undo_calls) {
                state.failing_undo = None;
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            act(state)
        })
    }
}

pub(crate) fn absent(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no {what}"))
}

/// An ordinary small server.
fn fixture() -> State {
    let processes: BTreeMap<u32, Process> = fixtures::processes().into_iter().map(|p| (p.pid, p)).collect();
    State {
        boot_ms: 3_600_000,
        boot_id: "0f0e0d0c-1111-4222-8333-444455556666".to_owned(),
        knobs: fixtures::knobs(&processes),
        unified: fixtures::unified(&processes),
        unit_aliases: BTreeMap::new(),
        cpu_quota: None,
        processes,
        next_pid: 5_000,
        listeners: [(22, 400), (6379, 1_001), (80, 1_100), (80, 1_101)]
            .map(fixtures::listener)
            .to_vec(),
        groups: BTreeMap::new(),
        workers: BTreeMap::new(),
        traffic: BTreeMap::new(),
        table: false,
        resources: Resources::default(),
        paths: BTreeMap::new(),
        clsacts: BTreeMap::new(),
        ticks: (0..CPUS).map(fixtures::idle).collect(),
        addresses: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))],
        interfaces: vec!["eth0".to_owned(), "lo".to_owned()],
        behind: BTreeMap::new(),
        names: BTreeMap::from([("db.example".to_owned(), vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10))])]),
        mounts: Vec::new(),
        worker_load: 1.0,
        lacking: BTreeMap::new(),
        stubborn: BTreeSet::new(),
        forks: BTreeMap::new(),
        undo_calls: 0,
        failing_undo: None,
        failing_writes: 0,
        lasting_groups: false,
        looks: 0,
        failing_look: None,
        hanging: BTreeSet::new(),
        worker_uid: None,
        calls: Vec::new(),
    }
}
