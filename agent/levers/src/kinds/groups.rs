//! Workers in a group of the injection's own: started there, and ended with everything in it.

use std::fmt;
#[cfg(any(test, feature = "fake"))]
use std::io;
use std::time::{Duration, Instant};

use agent_journal::UndoOutcome;
use agent_view::{GroupId, HostView, ProcessState};
use proto_model::id::InjectionId;
use serde::{Deserialize, Serialize};

use super::{Lever, Sweep, UndoContext, UndoError};
use crate::clean_check::CleanCheck;
use crate::error::OpsError;
#[cfg(any(test, feature = "fake"))]
use crate::fake::{FakeHost, absent, worker};
use crate::groups;
use crate::levers::{LeverError, Levers};
use crate::linux::LinuxOps;
use crate::spawn::{Worker, WorkerSpec};
use crate::work::packets::{PacketNote, PacketWork, TimingWork};

/// How long the processes of a group may take to be gone after they were killed.
pub const END_GROUP_WITHIN_MS: u64 = 2_000;
/// The longest that a worker may take to let go of what it holds.
pub const DRAIN_WITHIN_MS: u64 = 1_000;
/// How long a worker may take to begin on a host that is not busy, its look at the peers before the fault included.
const READY_WITHIN: Duration = Duration::from_secs(3);
/// The same on any host: the guardian takes a longer silence of the agent for its end.
const READY_AT_MOST: Duration = Duration::from_secs(8);
/// How many threads want to run now, among other numbers.
const LOAD: &str = "/proc/loadavg";
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// End everything in our group `fracas-<id>` and remove it from every hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyGroup {
    pub group: String,
}

/// Let the worker of our group `fracas-<id>` end by itself and let go of what it holds; what is left after that is ended by `EmptyGroup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainGroup {
    pub group: String,
    pub within_ms: u64,
}

/// A worker that runs in a group of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerHandle {
    pub pid: u32,
    pub group: GroupId,
}

/// Groups of ours and the workers in them.
///
/// Making is exact: it fails when the thing cannot be made. Unmaking is total: what is already gone is success.
pub trait GroupOps {
    /// Takes note of workers that have ended by themselves.
    fn reap_workers(&mut self) {}
    /// Makes our group in every hierarchy we use.
    fn make_group(&mut self, group: &GroupId) -> Result<(), OpsError>;
    /// Gives the group the weight of one ordinary process on each of so many processors.
    fn weigh_group(&mut self, group: &GroupId, processors: u32) -> Result<(), OpsError>;
    /// Starts a worker inside the group, oom_score_adj 1000, tied to us by a pipe; returns its pid.
    fn start_worker(&mut self, group: &GroupId, spec: &WorkerSpec) -> Result<u32, OpsError>;
    /// Tells the group's workers to end by themselves and waits at most `wait_ms` for it. Returns how many processes are still there.
    fn drain_group(&mut self, group: &GroupId, wait_ms: u64) -> Result<usize, OpsError>;
    /// Kills every process of the group and waits for none; that there is no such group is success.
    fn kill_group(&mut self, group: &GroupId) -> Result<(), OpsError>;
    /// Ends every process of the group and waits until none is left (at most `wait_ms`).
    /// Returns false when there was no such group.
    fn end_group(&mut self, group: &GroupId, wait_ms: u64) -> Result<bool, OpsError>;
    /// Removes the empty group everywhere; already gone is success.
    fn remove_group(&mut self, group: &GroupId) -> Result<(), OpsError>;
}

impl Levers<'_> {
    /// Starts this kind's `work` in a worker process in the injection's own group.
    pub fn start_worker<P: Serialize>(&mut self, params: &P) -> Result<WorkerHandle, LeverError> {
        self.start_worker_on(1, params)
    }

    /// The same for one that is to have its share of each of so many processors, whatever else runs on them: the weight of a group is
    /// divided over the processors that it uses.
    pub fn start_worker_on<P: Serialize>(&mut self, processors: u32, params: &P) -> Result<WorkerHandle, LeverError> {
        let group = GroupId::of(&self.context().injection);
        self.intend(EmptyGroup { group: group.0.clone() })?;
        self.start(group, processors, params)
    }

    /// The same for a worker that takes packets out of queues, and returns when it reads them all: packets may be sent there now.
    pub fn start_packet_worker(&mut self, order: &PacketWork) -> Result<WorkerHandle, LeverError> {
        let group = GroupId::of(&self.context().injection);
        self.intend(EmptyGroup { group: group.0.clone() })?;
        self.intend(DrainGroup {
            group: group.0.clone(),
            within_ms: DRAIN_WITHIN_MS,
        })?;
        let worker = self.start(group, 1, order)?;
        self.wait_for_reader(&worker, order)?;
        Ok(worker)
    }

    /// The same for one that times the way to a peer, and returns when it has done so: what is changed from here on shows.
    pub fn start_timing_worker(&mut self, order: &TimingWork) -> Result<WorkerHandle, LeverError> {
        let worker = self.start_worker(order)?;
        let ready = || {
            let note = self.view().worker_note(worker.pid)?;
            Ok(note.is_some_and(|note| PacketNote::parse(&note).is_some()))
        };
        self.wait_for_worker(&worker, "has not timed the way to the peer", ready)?;
        Ok(worker)
    }

    /// Numbers of queues that somebody reads.
    pub fn queues_taken(&self) -> Result<Vec<u16>, LeverError> {
        Ok(self.view().packet_queues()?.into_iter().map(|queue| queue.number).collect())
    }

    fn wait_for_reader(&self, worker: &WorkerHandle, order: &PacketWork) -> Result<(), LeverError> {
        let ready = || {
            let read = self.queues_taken()?;
            Ok(order.queues.numbers().all(|number| read.contains(&number)))
        };
        self.wait_for_worker(worker, "does not read its queues", ready)
    }

    fn wait_for_worker(&self, worker: &WorkerHandle, not: &str, ready: impl Fn() -> Result<bool, LeverError>) -> Result<(), LeverError> {
        let within = ready_within(self.view());
        let deadline = Instant::now() + within;
        while !ready()? {
            let process = self.view().process_stat(worker.pid)?;
            if process.is_none_or(|p| matches!(p.state, ProcessState::Zombie | ProcessState::Dead)) {
                let text = format!("the worker ended, and {not}; the agent's log says why");
                return Err(LeverError::Other(text));
            }
            if Instant::now() >= deadline {
                return Err(LeverError::Other(format!("the worker {not} after {} s", within.as_secs())));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        Ok(())
    }

    fn start<P: Serialize>(&mut self, group: GroupId, processors: u32, params: &P) -> Result<WorkerHandle, LeverError> {
        let params = serde_json::to_value(params).map_err(|e| LeverError::Other(format!("encode the worker's parameters: {e}")))?;
        let spec = WorkerSpec {
            injection: self.context().injection.clone(),
            kind: self.context().kind.clone(),
            params,
            deadline_boot_ms: self.context().deadline_boot_ms,
        };
        self.ops().make_group(&group)?;
        if processors > 1 {
            self.ops().weigh_group(&group, processors)?;
        }
        let pid = self.ops().start_worker(&group, &spec)?;
        Ok(WorkerHandle { pid, group })
    }
}

impl fmt::Display for EmptyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "end the processes of group {} and remove it", self.group)
    }
}

impl Lever for EmptyGroup {
    type Aim = ();
    const WAITS: bool = true;

    /// Its turn comes after that of `DrainGroup`, so nothing is killed that still drains.
    fn release(&self, context: &mut UndoContext<'_>) -> Result<(), UndoError> {
        context.ops.kill_group(&ours(&self.group)?)?;
        Ok(())
    }

    fn undo(&self, context: &mut UndoContext<'_>) -> Result<UndoOutcome, UndoError> {
        let wait_ms = context.left_of(END_GROUP_WITHIN_MS);
        let group = ours(&self.group)?;
        let found = context.ops.end_group(&group, wait_ms)?;
        context.ops.remove_group(&group)?;
        Ok(if found { UndoOutcome::Restored } else { UndoOutcome::AlreadyGone })
    }

    fn residue(check: &mut CleanCheck<'_>) {
        groups_left(check);
        workers_left(check);
    }

    fn sweep(sweep: &mut Sweep<'_>) {
        let groups = sweep.seen(sweep.view.our_groups());
        let open: Vec<GroupId> = (sweep.open)().iter().map(GroupId::of).collect();
        let named = |group: &GroupId| {
            group
                .0
                .strip_prefix(GroupId::PREFIX)
                .is_some_and(|id| InjectionId::parse(id).is_ok())
        };
        for group in groups.into_iter().filter(|group| named(group) && !open.contains(group)) {
            let ended = sweep.ops.end_group(&group, END_GROUP_WITHIN_MS);
            let removed = ended.and_then(|found| sweep.ops.remove_group(&group).map(|()| found));
            sweep.note(format!("group {}", group.0), removed);
        }
    }

    #[cfg(test)]
    fn pull_example(levers: &mut Levers<'_>) -> Result<(), LeverError> {
        levers.start_worker(&serde_json::json!({"percent": 50}))?;
        levers.start_worker(&serde_json::json!({"percent": 60}))?;
        Ok(())
    }
}

impl fmt::Display for DrainGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "let the worker of group {} end by itself", self.group)
    }
}

impl Lever for DrainGroup {
    type Aim = ();
    const WAITS: bool = true;

    /// The worker lets go of everything at once when it is asked to end.
    fn release(&self, context: &mut UndoContext<'_>) -> Result<(), UndoError> {
        context.ops.drain_group(&ours(&self.group)?, 0)?;
        Ok(())
    }

    /// Ending by itself is a courtesy to what the worker holds; that it did not is no failure of this undo.
    fn undo(&self, context: &mut UndoContext<'_>) -> Result<UndoOutcome, UndoError> {
        let group = ours(&self.group)?;
        let members = context.view.group_members(&group).unwrap_or_default();
        let wait_ms = context.left_of(self.within_ms.min(DRAIN_WITHIN_MS));
        let left = context.ops.drain_group(&group, wait_ms)?;
        if left > 0 {
            let held = members
                .iter()
                .find_map(|pid| PacketNote::parse(&context.view.worker_note(*pid).ok()??));
            let held = held.map_or(0, |note| note.held);
            tracing::warn!(
                group = group.0,
                held,
                "the worker did not end by itself: the packets that it holds are dropped"
            );
        }
        // One that was released may have ended by now.
        Ok(if members.is_empty() && context.released_ms.is_none() {
            UndoOutcome::AlreadyGone
        } else {
            UndoOutcome::Restored
        })
    }

    #[cfg(test)]
    fn pull_example(levers: &mut Levers<'_>) -> Result<(), LeverError> {
        let order = PacketWork {
            queues: crate::traffic::Queues::default(),
            harm: crate::work::packets::Harm::Loss(crate::work::packets::GilbertElliott::correlated(0.2, 0.0)),
            seed: 1,
            probe: None,
        };
        levers.start_packet_worker(&order).map(|_| ())
    }
}

/// A worker gets its share of the processors, which is the smaller the more threads want them.
fn ready_within(view: &dyn HostView) -> Duration {
    let load = view.knob(LOAD).ok().flatten().unwrap_or_default();
    let runnable = load
        .split([' ', '/'])
        .nth(3)
        .and_then(|number| number.parse::<u32>().ok())
        .unwrap_or(0);
    let cpus = view.usable_cpus().map_or(1, |cpus| cpus.len().max(1));
    let crowd = f64::from(runnable) / cpus as f64;
    READY_WITHIN.mul_f64(crowd.clamp(1.0, 8.0)).min(READY_AT_MOST)
}

fn ours(group: &str) -> Result<GroupId, UndoError> {
    if !group.starts_with(GroupId::PREFIX) || group.contains('/') {
        return Err(UndoError::NoEffect(format!("group {group:?} does not carry our name")));
    }
    Ok(GroupId(group.to_owned()))
}

fn may_be_there(check: &CleanCheck<'_>, group: &str) -> bool {
    check.holding().iter().any(|id| GroupId::of(id).0 == group)
}

fn groups_left(check: &mut CleanCheck<'_>) {
    for group in check.seen(check.view().our_groups()).unwrap_or_default() {
        if !may_be_there(check, &group.0) {
            let members = check.seen(check.view().group_members(&group)).unwrap_or_default();
            check.owned_left(format!("group {} with {} processes", group.0, members.len()));
        }
    }
}

/// Workers begin their command line with their group's name, so that one outside of its group is found as well.
fn workers_left(check: &mut CleanCheck<'_>) {
    for process in check.seen(check.view().processes()).unwrap_or_default() {
        let name = process.command_line.first().map(String::as_str).unwrap_or_default();
        let id = name.strip_prefix(GroupId::PREFIX).and_then(|id| InjectionId::parse(id).ok());
        let dead = matches!(process.state, ProcessState::Zombie | ProcessState::Dead);
        // One of another user is no worker of ours, whatever it runs: by what hangs, a user must not keep a host unproven.
        let may_be_ours = !dead && process.has_user_of_workers(check.view().worker_uid());
        if let Some(why) = process.unread.as_ref().filter(|_| may_be_ours) {
            check.unknown(format!("could not read whether {process} is a worker of ours: {why}"));
        }
        // Any user can give a process, also one of a setuid program, any name: ours run our program, as root or as the user of workers.
        let ours_by_user = process.real_uid == 0 || check.view().worker_uid() == Some(process.real_uid);
        let ours = id.is_some() && process.our_program && ours_by_user;
        if ours && !dead && !may_be_there(check, name) {
            check.owned_left(format!("worker {name} (pid {})", process.pid));
        }
    }
}

impl GroupOps for LinuxOps {
    fn reap_workers(&mut self) {
        self.workers.retain_mut(|worker| !worker.has_ended());
    }

    fn make_group(&mut self, group: &GroupId) -> Result<(), OpsError> {
        groups::make(self.view.hierarchies(), group)
    }

    fn weigh_group(&mut self, group: &GroupId, processors: u32) -> Result<(), OpsError> {
        groups::weigh(self.view.hierarchies(), group, processors)
    }

    fn start_worker(&mut self, group: &GroupId, spec: &WorkerSpec) -> Result<u32, OpsError> {
        self.reap_workers();
        let doors = groups::doors(self.view.hierarchies(), group)?;
        let worker = Worker::start(&self.agent, self.worker_account, group, doors, spec)?;
        let pid = worker.pid();
        self.workers.push(worker);
        Ok(pid)
    }

    fn drain_group(&mut self, group: &GroupId, wait_ms: u64) -> Result<usize, OpsError> {
        self.let_go(group);
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        loop {
            self.reap_workers();
            let left = self.view.hierarchies().members(group);
            let left = left.map_err(|e| OpsError::new(format!("look at group {}", group.0), std::io::Error::other(e)))?;
            if left.is_empty() || Instant::now() >= deadline {
                return Ok(left.len());
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    fn kill_group(&mut self, group: &GroupId) -> Result<(), OpsError> {
        self.let_go(group);
        groups::kill(self.view.hierarchies(), group)
    }

    fn end_group(&mut self, group: &GroupId, wait_ms: u64) -> Result<bool, OpsError> {
        self.let_go(group);
        let hierarchies = self.view.hierarchies().clone();
        let ended = groups::end(&hierarchies, group, Duration::from_millis(wait_ms), || self.reap_workers());
        self.reap_workers();
        ended
    }

    fn remove_group(&mut self, group: &GroupId) -> Result<(), OpsError> {
        groups::remove(self.view.hierarchies(), group)
    }
}

#[cfg(any(test, feature = "fake"))]
impl GroupOps for FakeHost {
    fn make_group(&mut self, group: &GroupId) -> Result<(), OpsError> {
        self.call(&format!("make group {}", group.0), |state| {
            state.groups.entry(group.clone()).or_default();
            Ok(())
        })
    }

    fn weigh_group(&mut self, group: &GroupId, processors: u32) -> Result<(), OpsError> {
        self.call(&format!("weigh group {} for {processors} processors", group.0), |_| Ok(()))
    }

    fn start_worker(&mut self, group: &GroupId, spec: &WorkerSpec) -> Result<u32, OpsError> {
        self.call(&format!("start a worker in {}", group.0), |state| {
            let pid = state.next_pid;
            let members = &mut state.groups.get_mut(group).ok_or_else(|| absent("such group"))?.members;
            members.insert(pid);
            state.next_pid += 1;
            state.workers.insert(pid, spec.clone());
            state.processes.insert(pid, worker(pid, state.boot_ms, group));
            Ok(pid)
        })
    }

    /// One that ends by nothing but KILL is waited for as long as is waited at all.
    fn drain_group(&mut self, group: &GroupId, wait_ms: u64) -> Result<usize, OpsError> {
        self.undo(&format!("drain group {}", group.0), |state| {
            let members = state.groups.get(group).map(|g| g.members.clone()).unwrap_or_default();
            let (stubborn, others): (Vec<u32>, Vec<u32>) = members.into_iter().partition(|pid| state.stubborn.contains(pid));
            others.into_iter().for_each(|pid| state.end(pid));
            if !stubborn.is_empty() {
                state.boot_ms += wait_ms;
            }
            Ok(stubborn.len())
        })
    }

    fn kill_group(&mut self, group: &GroupId) -> Result<(), OpsError> {
        self.undo(&format!("kill group {}", group.0), |state| {
            for pid in state.groups.get(group).map(|g| g.members.clone()).unwrap_or_default() {
                state.end(pid);
            }
            Ok(())
        })
    }

    fn end_group(&mut self, group: &GroupId, _wait_ms: u64) -> Result<bool, OpsError> {
        self.undo(&format!("end group {}", group.0), |state| {
            let Some(found) = state.groups.get(group) else { return Ok(false) };
            for pid in found.members.clone() {
                state.end(pid);
            }
            Ok(true)
        })
    }

    fn remove_group(&mut self, group: &GroupId) -> Result<(), OpsError> {
        self.undo(&format!("remove group {}", group.0), |state| {
            if state.lasting_groups || state.groups.get(group).is_some_and(|g| !g.members.is_empty()) {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            state.groups.remove(group);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_gets_more_time_where_many_threads_want_the_processors() {
        let host = FakeHost::new();
        assert_eq!(ready_within(&host), READY_WITHIN, "nothing is known of the load");
        for (load, seconds) in [("0.1 0.2 0.3 1/200 99", 3), ("9 9 9 8/200 99", 6), ("90 90 90 400/900 99", 8)] {
            host.set_knob(LOAD, load);
            assert_eq!(ready_within(&host).as_secs(), seconds, "{load} on four processors");
        }
    }
}
