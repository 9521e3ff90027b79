//! The packet engine: rules that hand packets to a worker of ours. Whether it is used is chosen elsewhere.

use agent_levers::work::packets::{Harm, PacketNote, PacketWork};
use agent_levers::{Fate, Levers, Queues, WorkerHandle};
use agent_view::{HostView, ProcessState, UnifiedGroup};
use proto_model::id::InjectionId;

use super::observe_partition;
use super::shaping::{AppliedEngine, ShapingRequest};
use crate::fault::{FaultError, Scene};

/// A worker tells of itself ten times a second; one that is silent for so long is stuck, and packets with it.
const SILENT_MS: u64 = 1_000;
/// A note can be seen half written; so often it is read again.
const READ_TRIES: usize = 3;

/// The worker reads its queues before the first packet is sent there.
pub(super) fn begin(request: &ShapingRequest<'_>, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<AppliedEngine, FaultError> {
    let taken = levers.queues_taken()?;
    let queues = Queues::choose(&levers.context().injection, request.direction, &taken);
    let queues = queues.ok_or_else(|| FaultError::Other("every packet queue of this host is read by somebody".to_owned()))?;
    let order = PacketWork {
        queues,
        harm: request.harm,
        seed: scene.seed,
        probe: matches!(request.harm, Harm::Delay(_)).then(|| request.probe(scene)).flatten(),
    };
    let worker = levers.start_packet_worker(&order)?;
    let gate_ms = levers.context().gate_ms;
    let mut spec = request
        .matching
        .spec(request.resolved, request.direction, Fate::Queue(queues), gate_ms);
    if spec.groups.is_some() && order.probe.is_some() {
        spec.prober = group_of(&worker, scene.view)?;
    }
    levers.shape_traffic(&spec)?;
    Ok(AppliedEngine::Queues { worker })
}

/// Where the worker's questions come from: what it times must meet the fault as the packets do that are meant.
fn group_of(worker: &WorkerHandle, view: &dyn HostView) -> Result<Option<UnifiedGroup>, FaultError> {
    let path = view.process(worker.pid)?.and_then(|process| process.unified);
    Ok(path.map(|path| view.unified_group(&path)).transpose()?.flatten())
}

/// Why it no longer acts, if so: its rules are gone, or its worker is, or does not move.
pub(super) fn still_there(injection: &InjectionId, worker: &WorkerHandle, view: &dyn HostView) -> Result<(), String> {
    observe_partition::still_there(injection, view)?;
    let pid = worker.pid;
    let member = view.group_members(&worker.group).is_ok_and(|members| members.contains(&pid));
    let process = view.process_stat(pid).ok().flatten();
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
