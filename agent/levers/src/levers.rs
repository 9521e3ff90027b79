//! What a fault may pull. Every method records its undo, synced, before it changes anything; none can skip that.

use std::path::Path;
use std::time::{Duration, Instant};

use agent_journal::{Ballast, Journal, ScaffoldPlace, Undo, Victim, may_set_knob};
use agent_view::tc::names;
use agent_view::{Clsact, GroupId, HostView, PathInterface, ProcessState, ViewError, Volume};
use proto_model::id::InjectionId;
use serde::Serialize;

use crate::hands::{Hands, HandsError, PathOpening, WorkerSpec};
use crate::path::{self, Packets, PathSpec};
use crate::rewind::DRAIN_WITHIN_MS;
use crate::rewind::same_process;
use crate::signal::KillSignal;
use crate::tc::free_preference;
use crate::traffic::{Spared, TrafficSpec};
use crate::work::packets::{PacketNote, PacketWork, TimingWork};

/// How long a worker may take to begin, its look at the peers before the fault included.
const READY_WITHIN: Duration = Duration::from_secs(3);
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// Why a pull did not happen, or went wrong after its undo was recorded.
#[derive(Debug, thiserror::Error)]
pub enum LeverError {
    /// The undo could not be written, so nothing was touched.
    #[error("record the undo before the deed")]
    Journal(#[source] agent_journal::JournalError),
    #[error("{0}")]
    Deed(#[from] HandsError),
    #[error("{0}")]
    Look(#[from] ViewError),
    /// The injection is closed or being undone; nothing is pulled again.
    #[error("the injection is already ending")]
    Ending,
    #[error("{0}")]
    Other(String),
}

/// A worker that runs in a group of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct WorkerHandle {
    pub pid: u32,
    pub group: GroupId,
}

/// A path that packets take now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct PathHandle {
    pub link: String,
    pub interfaces: Vec<String>,
    /// How many filters lead packets into it.
    pub filters: usize,
    /// How many packets it holds before it drops more.
    pub room_packets: u32,
}

/// What a pull needs to know besides its own arguments.
#[derive(Debug, Clone)]
pub struct PullContext {
    pub injection: InjectionId,
    pub kind: String,
    pub seed: u64,
    pub deadline_boot_ms: u64,
    /// min(what is left of the duration, the lease): how long the kernel may hold by itself.
    pub gate_ms: u64,
    pub spared: Spared,
}

/// Where undos are recorded; a locked journal, or the suites' paper with crash points.
pub trait UndoLog {
    /// Appends and syncs the undo; from its return on the deed may be done.
    fn intend(&mut self, undo: Undo) -> Result<u32, agent_journal::JournalError>;
    /// Appends and syncs what is about to be done for good; from its return on the deed may be done.
    fn declare(&mut self, consequences: Vec<String>) -> Result<(), agent_journal::JournalError>;
    /// Every undo that was recorded, in the order of the pulls.
    fn undos(&self) -> Vec<Undo>;
    /// True once an end has been recorded: nothing may be pulled.
    fn is_ending(&self) -> bool;
}

impl UndoLog for Journal {
    fn intend(&mut self, undo: Undo) -> Result<u32, agent_journal::JournalError> {
        Journal::intend(self, undo)
    }

    fn declare(&mut self, consequences: Vec<String>) -> Result<(), agent_journal::JournalError> {
        Journal::declare(self, consequences)
    }

    fn undos(&self) -> Vec<Undo> {
        self.history().intents.iter().map(|(_, undo)| undo.clone()).collect()
    }

    fn is_ending(&self) -> bool {
        Journal::is_ending(self)
    }
}

/// Everything a fault may do to a host.
pub struct Levers<'a> {
    log: &'a mut dyn UndoLog,
    hands: &'a mut dyn Hands,
    view: &'a dyn HostView,
    context: PullContext,
}

impl<'a> Levers<'a> {
    pub fn new(log: &'a mut dyn UndoLog, hands: &'a mut dyn Hands, view: &'a dyn HostView, context: PullContext) -> Self {
        Self { log, hands, view, context }
    }

    pub fn view(&self) -> &'a dyn HostView {
        self.view
    }

    pub fn context(&self) -> &PullContext {
        &self.context
    }

    /// Starts this kind's `work` in a worker process in the injection's own group.
    pub fn start_worker<P: Serialize>(&mut self, params: &P) -> Result<WorkerHandle, LeverError> {
        let group = GroupId::of(&self.context.injection);
        self.intend(Undo::EmptyGroup { group: group.0.clone() })?;
        self.start(group, params)
    }

    /// The same for a worker that takes packets out of queues, and returns when it reads them all: packets may be sent there now.
    pub fn start_packet_worker(&mut self, order: &PacketWork) -> Result<WorkerHandle, LeverError> {
        let group = GroupId::of(&self.context.injection);
        self.intend(Undo::EmptyGroup { group: group.0.clone() })?;
        self.intend(Undo::DrainGroup {
            group: group.0.clone(),
            within_ms: DRAIN_WITHIN_MS,
        })?;
        let worker = self.start(group, order)?;
        self.wait_for_reader(&worker, order)?;
        Ok(worker)
    }

    /// The same for one that times the way to a peer, and returns when it has done so: what is changed from here on shows.
    pub fn start_timing_worker(&mut self, order: &TimingWork) -> Result<WorkerHandle, LeverError> {
        let worker = self.start_worker(order)?;
        let ready = || {
            Ok(self
                .view
                .worker_note(worker.pid)?
                .is_some_and(|note| PacketNote::parse(&note).is_some()))
        };
        self.wait_for_worker(&worker, "has not timed the way to the peer", ready)?;
        Ok(worker)
    }

    /// Numbers of queues that somebody reads.
    pub fn queues_taken(&self) -> Result<Vec<u16>, LeverError> {
        Ok(self.view.packet_queues()?.into_iter().map(|queue| queue.number).collect())
    }

    fn wait_for_reader(&self, worker: &WorkerHandle, order: &PacketWork) -> Result<(), LeverError> {
        let ready = || {
            let read = self.queues_taken()?;
            Ok(order.queues.numbers().all(|number| read.contains(&number)))
        };
        self.wait_for_worker(worker, "does not read its queues", ready)
    }

    fn wait_for_worker(&self, worker: &WorkerHandle, not: &str, ready: impl Fn() -> Result<bool, LeverError>) -> Result<(), LeverError> {
        let deadline = Instant::now() + READY_WITHIN;
        while !ready()? {
            let process = self.view.process(worker.pid)?;
            if process.is_none_or(|p| matches!(p.state, ProcessState::Zombie | ProcessState::Dead)) {
                let text = format!("the worker ended, and {not}; the agent's log says why");
                return Err(LeverError::Other(text));
            }
            if Instant::now() >= deadline {
                return Err(LeverError::Other(format!("the worker {not} after {} s", READY_WITHIN.as_secs())));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        Ok(())
    }

    fn start<P: Serialize>(&mut self, group: GroupId, params: &P) -> Result<WorkerHandle, LeverError> {
        let params = serde_json::to_value(params).map_err(|e| LeverError::Other(format!("encode the worker's parameters: {e}")))?;
        self.hands.make_group(&group)?;
        let spec = WorkerSpec {
            injection: self.context.injection.clone(),
            kind: self.context.kind.clone(),
            params,
            deadline_boot_ms: self.context.deadline_boot_ms,
        };
        let pid = self.hands.start_worker(&group, &spec)?;
        Ok(WorkerHandle { pid, group })
    }

    /// Stops these processes; returns those that were still the same and are stopped now.
    ///
    /// One that is stopped already is left out: it would be let go on at the end although we did not stop it.
    pub fn stop_processes(&mut self, victims: Vec<Victim>) -> Result<Vec<Victim>, LeverError> {
        let victims = self.running(victims)?;
        if victims.is_empty() {
            return Ok(victims);
        }
        self.intend(Undo::ResumeProcesses { victims: victims.clone() })?;
        let mut stopped = Vec::with_capacity(victims.len());
        for victim in victims {
            if self.hands.stop_process(&victim)? {
                stopped.push(victim);
            }
        }
        Ok(stopped)
    }

    /// Sends each of these a signal for good, declared first; returns those that were still the same and got it.
    ///
    /// One that is refused by the system stops no other; the first such answer is returned when nobody got the signal.
    pub fn kill_processes(&mut self, victims: Vec<Victim>, signal: KillSignal) -> Result<Vec<Victim>, LeverError> {
        let victims = self.living(victims)?;
        if victims.is_empty() {
            return Ok(victims);
        }
        let deed = |v: &Victim| format!("{signal} was sent to {} (pid {}, start time {})", v.name, v.pid, v.start_time);
        self.declare(victims.iter().map(deed).collect())?;
        let (mut got, mut failure) = (Vec::with_capacity(victims.len()), None);
        for victim in victims {
            match self.hands.signal_process(&victim, signal) {
                Ok(true) => got.push(victim),
                Ok(false) => {}
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        match failure {
            Some(error) if got.is_empty() => Err(error.into()),
            _ => Ok(got),
        }
    }

    /// Adds to what is told of the end: something that our deed led to and that has no way back either.
    pub fn declare(&mut self, consequences: Vec<String>) -> Result<(), LeverError> {
        if self.log.is_ending() {
            return Err(LeverError::Ending);
        }
        self.log.declare(consequences).map_err(LeverError::Journal)
    }

    /// Sets a knob, to be restored at the end if it is still ours. Returns the value from before.
    pub fn set_knob(&mut self, path: &str, value: &str) -> Result<String, LeverError> {
        if !may_set_knob(path) {
            return Err(LeverError::Other(format!("{path} is no knob that can be restored")));
        }
        let before = self
            .view
            .knob(path)?
            .ok_or_else(|| LeverError::Other(format!("{path} does not exist")))?;
        self.intend(Undo::RestoreKnob {
            path: path.to_owned(),
            ours: value.to_owned(),
            before: before.clone(),
        })?;
        self.hands.write_knob(path, value)?;
        Ok(before)
    }

    /// Gives these packets their fate, held by the kernel for at most the context's gate unless renewed.
    pub fn shape_traffic(&mut self, spec: &TrafficSpec) -> Result<(), LeverError> {
        self.intend(Undo::RemoveTraffic {
            injection: self.context.injection.clone(),
        })?;
        self.hands.add_traffic(&self.context.injection, spec, &self.context.spared)?;
        Ok(())
    }

    /// Makes a worse path for these packets, held by the kernel for at most the context's gate unless renewed.
    pub fn shape_path(&mut self, spec: &PathSpec) -> Result<PathHandle, LeverError> {
        path::check(spec).map_err(LeverError::Other)?;
        let interfaces = self.begins_at(spec)?;
        let preference = free_preference(&interfaces).ok_or_else(|| LeverError::Other("others hold every preference of filters".into()))?;
        let injection = self.context.injection.clone();
        let scaffolds = places(&interfaces);
        self.intend(Undo::RemovePath {
            injection: injection.clone(),
            link: names::link_of(&injection),
            preference,
            drain_ms: spec.shape.drain_ms(),
            scaffolds: scaffolds.clone(),
        })?;
        for place in scaffolds.iter().filter(|place| place.was_absent) {
            self.hands.make_scaffold(place)?;
        }
        self.hands.make_path(&injection, &spec.shape)?;
        let handle = PathHandle {
            link: names::link_of(&injection),
            interfaces: interfaces.iter().map(|i| i.name.clone()).collect(),
            filters: interfaces.len() * spec.packets.filters_per_interface(),
            room_packets: spec.shape.room_packets(),
        };
        let opening = PathOpening {
            interfaces,
            preference,
            spared: self.context.spared.clone(),
            gate_ms: self.context.gate_ms,
        };
        self.hands.open_path(&injection, spec, &opening)?;
        Ok(handle)
    }

    /// Replaces the peers, exceptions and groups of every lever of this injection that acts on packets. What undoes them names none.
    pub fn retarget_packets(&mut self, spec: &TrafficSpec) -> Result<(), LeverError> {
        if self.log.is_ending() {
            return Err(LeverError::Ending);
        }
        let injection = &self.context.injection;
        for undo in self.log.undos() {
            match undo {
                Undo::RemoveTraffic { .. } => self.hands.replace_peers(injection, spec)?,
                Undo::RemovePath { .. } => self
                    .hands
                    .replace_path_peers(injection, &Packets::from(spec), &self.context.spared)?,
                _ => {}
            }
        }
        tracing::info!(%injection, peers = spec.peers.len(), "names or groups moved, and the fault with them");
        Ok(())
    }

    fn begins_at(&self, spec: &PathSpec) -> Result<Vec<PathInterface>, LeverError> {
        let packets = &spec.packets;
        let interfaces = self.view.path_interfaces(&packets.peers, packets.interface.as_deref())?;
        if interfaces.is_empty() {
            return Err(LeverError::Other("no interface leads to the peers".into()));
        }
        let taken = interfaces
            .iter()
            .find(|i| i.clsact == Clsact::Taken && packets.direction.covers_out());
        match taken {
            Some(interface) => Err(LeverError::Other(format!(
                "{} has an ingress queue of somebody else in the place of a clsact",
                interface.name
            ))),
            None => Ok(interfaces),
        }
    }

    /// Makes this injection's ballast file in a folder of a volume, whose links were all followed; it is empty.
    pub fn make_ballast(&mut self, folder: &Path, volume: &Volume) -> Result<Ballast, LeverError> {
        let mut ballast = Ballast {
            path: Ballast::path_in(folder, &self.context.injection),
            mount_point: volume.mount_point.clone(),
            device: volume.device,
            inode: None,
            volatile: volume.is_memory(),
            handle: None,
        };
        self.intend(Undo::RemoveBallast { ballast: ballast.clone() })?;
        let made = self.hands.make_ballast(&ballast)?;
        (ballast.inode, ballast.handle) = (Some(made.inode), made.handle);
        // Before it takes any space it is known which file is ours.
        self.intend(Undo::RemoveBallast { ballast: ballast.clone() })?;
        Ok(ballast)
    }

    /// Lets it take `bytes` at once; false where the file system cannot, and nothing was done.
    pub fn grow_ballast(&mut self, ballast: &Ballast, bytes: u64) -> Result<bool, LeverError> {
        if self.log.is_ending() {
            return Err(LeverError::Ending);
        }
        Ok(self.hands.grow_ballast(ballast, bytes)?)
    }

    fn living(&self, victims: Vec<Victim>) -> Result<Vec<Victim>, LeverError> {
        let mut living = Vec::with_capacity(victims.len());
        for victim in victims {
            let process = same_process(self.view, &victim)?;
            if process.is_some_and(|p| !matches!(p.state, ProcessState::Zombie | ProcessState::Dead)) {
                living.push(victim);
            }
        }
        Ok(living)
    }

    fn running(&self, victims: Vec<Victim>) -> Result<Vec<Victim>, LeverError> {
        let mut running = Vec::with_capacity(victims.len());
        for victim in victims {
            let process = same_process(self.view, &victim)?;
            if process.is_some_and(|p| !matches!(p.state, ProcessState::Stopped | ProcessState::Zombie | ProcessState::Dead)) {
                running.push(victim);
            }
        }
        Ok(running)
    }

    fn intend(&mut self, undo: Undo) -> Result<(), LeverError> {
        if self.log.is_ending() {
            return Err(LeverError::Ending);
        }
        self.log.intend(undo).map(|_| ()).map_err(LeverError::Journal)
    }
}

/// Where a clsact of ours is or will be.
fn places(interfaces: &[PathInterface]) -> Vec<ScaffoldPlace> {
    let ours = interfaces.iter().filter(|i| matches!(i.clsact, Clsact::Absent | Clsact::Ours));
    let place = |interface: &PathInterface| ScaffoldPlace {
        interface: interface.name.clone(),
        index: interface.index,
        was_absent: interface.clsact == Clsact::Absent,
    };
    ours.map(place).collect()
}
