//! By what packets are held, or lost in bursts, on this host; the only place that chooses. Rules alone need no engine.

use agent_levers::work::packets::{PacketWork, TimingWork};
use agent_levers::{Levers, Shape};
use agent_privileges::CapabilitySet;
use agent_view::{Clsact, Feature, Features, HostView};
use proto_model::doctor::{Ability, Can};
use proto_model::id::InjectionId;
use proto_model::problem::Refusal;
use serde::Deserialize;
use serde_json::Value;

use super::forwarding::forwards;
use super::shaping::{AppliedEngine, ShapingRequest};
use super::{netem, packets};
use crate::ability::{limited_without, needs, refuse_without};
use crate::fault::{FaultError, Scene};
use crate::work::WorkControl;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// A queue of the kernel's, to which filters of ours lead the packets.
    Netem,
    /// A worker of ours, to which the kernel hands the packets.
    Packets,
}

impl Engine {
    /// The better one that this host has, and why it is not the best.
    fn of_host(host: &dyn Features) -> (Self, Ability) {
        let netem = needs(host, Self::Netem.needs());
        let engine = if netem.can == Can::Yes { Self::Netem } else { Self::Packets };
        (engine, netem)
    }

    /// Whether the engine that this host would use can be used.
    pub fn ability(host: &dyn Features) -> Ability {
        let (engine, netem) = Self::of_host(host);
        match engine {
            // What is beyond netem is done by packets.
            Self::Netem => limited_without(netem.by(engine.name()), host, Self::Packets.needs()),
            Self::Packets => {
                let packets = needs(host, engine.needs()).by(engine.name());
                let is_limited = packets.why.is_some();
                Ability {
                    why: packets.why.or(netem.why.map(|why| format!("not by netem: {why}"))),
                    fix: if is_limited { packets.fix } else { netem.fix },
                    ..packets
                }
            }
        }
    }

    fn needs(self) -> &'static [Feature] {
        match self {
            Self::Netem => &[
                Feature::Root,
                Feature::NetAdmin,
                Feature::Groups,
                Feature::Netem,
                Feature::Ifb,
                Feature::Clsact,
                Feature::ClsBpf,
                Feature::BpfPrograms,
                Feature::Mirred,
            ],
            Self::Packets => &[
                Feature::Root,
                Feature::NetAdmin,
                Feature::NetRaw,
                Feature::ChangeUser,
                // The worker's note, by which the agent knows that it moves, is among its open files.
                Feature::Ptrace,
                Feature::Groups,
                Feature::PacketRules,
                Feature::PacketQueues,
            ],
        }
    }

    /// As it is called in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Netem => "netem",
            Self::Packets => "packets",
        }
    }
}

impl ShapingRequest<'_> {
    /// The engine for it, and what a person should know where this host's better one would do something else than what is asked.
    pub fn engine(&self, view: &dyn HostView) -> (Engine, Option<String>) {
        match Engine::of_host(view).0 {
            Engine::Packets => (Engine::Packets, None),
            Engine::Netem => match self.is_beyond_netem(view) {
                None => (Engine::Netem, None),
                Some(why) => (
                    Engine::Packets,
                    Some(format!("a worker does it, although this host has netem: {why}")),
                ),
            },
        }
    }

    /// The same before the deed; refused where the engine lacks something.
    pub fn check(&self, view: &dyn HostView) -> Result<(Engine, Option<String>), Refusal> {
        let (engine, why) = self.engine(view);
        refuse_without(view, engine.needs())?;
        Ok((engine, why))
    }

    fn is_beyond_netem(&self, view: &dyn HostView) -> Option<String> {
        if let Some(why) = Shape::from(self.harm).is_beyond_netem() {
            return Some(why.to_owned());
        }
        if self.resolved.scope.is_some() {
            return Some("filters on an interface see no socket, so they cannot tell a unit's packets from others".to_owned());
        }
        if self.direction.covers_in() && forwards(view) {
            return Some("this host passes packets of others on, and where they come in nobody knows yet which stay here".to_owned());
        }
        let interfaces = match view.path_interfaces(&self.resolved.peers, self.matching.interface.as_deref()) {
            Ok(interfaces) if interfaces.is_empty() => return Some("no interface leads to the peers now".to_owned()),
            Ok(interfaces) => interfaces,
            Err(error) => return Some(format!("could not {error}: {}", error.source)),
        };
        interfaces.iter().find_map(|interface| match interface.foreign_filters.first() {
            _ if interface.clsact == Clsact::Taken => Some(format!("somebody else has an ingress queue on {}", interface.name)),
            Some(stranger) => Some(format!(
                "{stranger} hangs on {}, and would not see the packets any more",
                interface.name
            )),
            None => None,
        })
    }

    pub fn begin(&self, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<AppliedEngine, FaultError> {
        match self.engine(scene.view).0 {
            Engine::Netem => netem::begin(self, scene, levers),
            Engine::Packets => packets::begin(self, scene, levers),
        }
    }
}

/// Why what was made no longer acts, if so.
pub(super) fn still_there(injection: &InjectionId, made: &AppliedEngine, view: &dyn HostView) -> Result<(), String> {
    match made {
        AppliedEngine::Path { path, .. } => netem::still_there(injection, path, view),
        AppliedEngine::Queues { worker } => packets::still_there(injection, worker, view),
    }
}

/// To answer for queued packets and to send copies of them again.
pub(super) const WORKER_KEEPS: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW);

/// What a worker is ordered to do.
#[derive(Deserialize)]
#[serde(untagged)]
enum Order {
    Packets(PacketWork),
    Timing(TimingWork),
}

/// The body of the worker.
pub(super) fn work(order: &Value, control: &WorkControl) -> Result<(), FaultError> {
    let order: Order = serde_json::from_value(order.clone()).map_err(|e| FaultError::Other(format!("read the worker's order: {e}")))?;
    let should_stop = || control.should_stop();
    match order {
        Order::Packets(order) => agent_levers::work::packets::run(&order, &should_stop),
        Order::Timing(order) => agent_levers::work::packets::time(&order, &should_stop),
    }
    .map_err(|e| FaultError::Other(format!("work on packets: {e}")))
}
