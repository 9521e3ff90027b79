//! By what packets are held, or lost in bursts, on this host; the only place that chooses. Rules alone need no engine.

use std::net::{IpAddr, SocketAddr};

use agent_levers::work::packets::{Harm, PacketNote, PacketWork, Probe};
use agent_levers::{Direction, Fate, Levers, Protocol, Queues, WorkerHandle};
use agent_view::{Feature, HostView, ProcessState};
use proto_model::doctor::Ability;
use proto_model::id::InjectionId;
use proto_model::peer::Network;
use proto_model::problem::Refusal;
use serde_json::Value;

use super::matching::{Matching, Resolved};
use super::observe;
use crate::ability::{needs, refuse_without};
use crate::fault::{FaultError, Scene};
use crate::work::WorkControl;

/// A worker tells of itself ten times a second; one that is silent for so long is stuck, and packets with it.
const SILENT_MS: u64 = 1_000;
/// A note can be seen half written; so often it is read again.
const READ_TRIES: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// A worker of ours, to which the kernel hands the packets.
    Packets,
}

impl Engine {
    /// The best that this host has.
    pub fn of_host(_view: &dyn HostView) -> Self {
        Self::Packets
    }

    /// Whether the engine that this host would use can be used.
    pub fn ability(view: &dyn HostView) -> Ability {
        let engine = Self::of_host(view);
        needs(view, engine.needs()).by(engine.name())
    }

    /// The same before a deed.
    pub fn check(view: &dyn HostView) -> Result<(), Refusal> {
        refuse_without(view, Self::of_host(view).needs())
    }

    fn needs(self) -> &'static [Feature] {
        match self {
            Self::Packets => &[
                Feature::Root,
                Feature::NetAdmin,
                Feature::Groups,
                Feature::PacketRules,
                Feature::PacketQueues,
            ],
        }
    }

    /// As it is called in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
        }
    }

    pub fn begin(self, deed: &Deed<'_>, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<WorkerHandle, FaultError> {
        match self {
            Self::Packets => begin_worker(deed, scene, levers),
        }
    }
}

/// What is to be done to which packets.
pub(super) struct Deed<'a> {
    pub matching: &'a Matching,
    pub resolved: &'a Resolved,
    pub direction: Direction,
    pub harm: Harm,
}

/// The worker reads its queues before the first packet is sent there.
fn begin_worker(deed: &Deed<'_>, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<WorkerHandle, FaultError> {
    let taken = levers.queues_taken()?;
    let queues = Queues::choose(&levers.context().injection, deed.direction, &taken);
    let queues = queues.ok_or_else(|| FaultError::Other("every packet queue of this host is read by somebody".to_owned()))?;
    let order = PacketWork {
        queues,
        harm: deed.harm,
        seed: scene.seed,
        probe: matches!(deed.harm, Harm::Delay(_)).then(|| probe(deed, scene)).flatten(),
    };
    let worker = levers.start_packet_worker(&order)?;
    let gate_ms = levers.context().gate_ms;
    levers.shape_traffic(&deed.matching.spec(deed.resolved, deed.direction, Fate::Queue(queues), gate_ms))?;
    Ok(worker)
}

/// The body of the worker.
pub(super) fn work(order: &Value, control: &WorkControl) -> Result<(), FaultError> {
    let order: PacketWork =
        serde_json::from_value(order.clone()).map_err(|e| FaultError::Other(format!("read the worker's order: {e}")))?;
    agent_levers::work::packets::run(&order, &|| control.should_stop()).map_err(|e| FaultError::Other(format!("work on packets: {e}")))
}

/// What can be timed from here without a bother that nobody asked for: one host among the peers, by packets that are meant.
fn probe(deed: &Deed<'_>, scene: &Scene<'_>) -> Option<Probe> {
    let Matching {
        ports,
        local_ports,
        protocol,
        ..
    } = deed.matching;
    let to = one_host(deed.resolved, scene)?;
    if !local_ports.is_empty() {
        return None;
    }
    let free = |port: &u16| scene.protection.port(*port).is_none();
    match (protocol, ports.first()) {
        (None | Some(Protocol::Icmp), None) => Some(Probe::Echo(to)),
        (None | Some(Protocol::Tcp), Some(range)) => {
            let port = (range.first..=range.last).find(free)?;
            Some(Probe::Connect(SocketAddr::new(to, port)))
        }
        _ => None,
    }
}

fn one_host(resolved: &Resolved, scene: &Scene<'_>) -> Option<IpAddr> {
    let own = scene.view.facts().addresses;
    let is_meant = |address: &IpAddr| !own.contains(address) && !resolved.except.iter().any(|except| except.contains(*address));
    let hosts = resolved.peers.iter().filter(|peer| **peer == Network::host(peer.address));
    hosts.map(|peer| peer.address).find(is_meant)
}

/// Why it no longer acts, if so: its rules are gone, or its worker is, or does not move.
pub(super) fn still_there(injection: &InjectionId, worker: &WorkerHandle, view: &dyn HostView) -> Result<(), String> {
    observe::still_there(injection, view)?;
    let pid = worker.pid;
    let member = view.group_members(&worker.group).is_ok_and(|members| members.contains(&pid));
    let process = view.process(pid).ok().flatten();
    let dead = process.is_none_or(|p| matches!(p.state, ProcessState::Zombie | ProcessState::Dead));
    if !member || dead {
        return Err(format!("the worker (pid {pid}) is gone, and packets flow past it"));
    }
    let note = note(worker, view).ok_or_else(|| format!("the worker (pid {pid}) tells nothing of itself"))?;
    let silent_ms = view.boot_ms().saturating_sub(note.beat_ms);
    if silent_ms > SILENT_MS {
        return Err(format!(
            "the worker (pid {pid}) has not moved for {silent_ms} ms, and packets wait for it"
        ));
    }
    Ok(())
}

/// What the worker tells of itself.
pub(super) fn note(worker: &WorkerHandle, view: &dyn HostView) -> Option<PacketNote> {
    let mut read = (0..READ_TRIES).filter_map(|_| PacketNote::parse(&view.worker_note(worker.pid).ok()??));
    read.next()
}
