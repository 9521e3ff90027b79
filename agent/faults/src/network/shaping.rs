//! What is to be done to which packets, and what an engine made of it; which engine is chosen elsewhere.

use std::net::{IpAddr, SocketAddr};

use agent_levers::work::packets::{Harm, Probe};
use agent_levers::{Direction, PathHandle, Protocol, WorkerHandle};
use proto_model::peer::Network;
use serde::{Deserialize, Serialize};

use super::matching::Matching;
use super::resolved::Resolved;
use crate::fault::Scene;

/// What an engine made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AppliedEngine {
    /// The timer measures; where nothing can be timed there is none.
    Path {
        path: PathHandle,
        timer: Option<WorkerHandle>,
        /// What this host lacks to time a peer that could be timed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        untimed: Option<String>,
    },
    Queues {
        worker: WorkerHandle,
    },
}

/// What is to be done to which packets.
pub(super) struct ShapingRequest<'a> {
    pub matching: &'a Matching,
    pub resolved: &'a Resolved,
    pub direction: Direction,
    pub harm: Harm,
}

impl ShapingRequest<'_> {
    /// What can be timed from here without a bother that nobody asked for: one host among the peers, by packets that are meant.
    pub fn probe(&self, scene: &Scene<'_>) -> Option<Probe> {
        let Matching {
            ports,
            local_ports,
            protocol,
            ..
        } = self.matching;
        let to = one_host(self.resolved, scene)?;
        if !local_ports.is_empty() {
            return None;
        }
        let free = |port: &u16| scene.protection.port(*port).is_none();
        // The kernel knows no owner of an echo that comes in.
        let echoes = self.resolved.scope.is_none() || !self.direction.covers_in();
        match (protocol, ports.first()) {
            (None | Some(Protocol::Icmp), None) if echoes => Some(Probe::Echo(to)),
            (None | Some(Protocol::Tcp), Some(range)) => {
                let port = (range.first..=range.last).find(free)?;
                Some(Probe::Connect(SocketAddr::new(to, port)))
            }
            _ => None,
        }
    }
}

fn one_host(resolved: &Resolved, scene: &Scene<'_>) -> Option<IpAddr> {
    let own = scene.view.facts().addresses;
    let is_meant = |address: &IpAddr| !own.contains(address) && !resolved.except.iter().any(|except| except.contains(*address));
    let hosts = resolved.peers.iter().filter(|peer| **peer == Network::host(peer.address));
    hosts.map(|peer| peer.address).find(is_meant)
}
