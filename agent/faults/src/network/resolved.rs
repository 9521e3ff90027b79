//! What a fault's peers and groups meant at one moment, and what of it does not hold any more or is not covered; it resolves nothing itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use agent_view::HostView;
use proto_model::injection::Observation;
use proto_model::peer::Network;
use serde::{Deserialize, Serialize};

use super::cgroup_scope::CgroupScope;
use super::multicast::Sent;
use crate::fault::Look;

/// What a person should know before a fault on a router or on a host of containers.
pub(super) const FORWARDS: &str =
    "IP forwarding is on: packets that this host only forwards (containers, virtual machines) are not affected";

/// The peers as networks, and the group whose packets are matched, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resolved {
    pub peers: Vec<Network>,
    pub except: Vec<Network>,
    /// None where the packets of all processes are matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<CgroupScope>,
    /// The names among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, Known>,
    /// IP forwarding is on: containers and other machines may reach the peers through this host.
    #[serde(default)]
    pub forwards: bool,
    /// Packets to groups that were counted before; none where the fault covers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_groups: Option<Sent>,
}

/// What is known of a name among the peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub addresses: Vec<IpAddr>,
    /// How often it came to mean something else since the fault began.
    pub changes: u32,
    /// Why it could not be looked up the last time; its old addresses are kept then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Resolved {
    /// Paths of groups that it stands on.
    pub fn groups(&self) -> Vec<String> {
        self.scope.iter().map(|scope| scope.path().to_owned()).collect()
    }

    /// What a person should know of names and groups that did not stay as they were.
    pub fn gaps(&self) -> Option<String> {
        let of_names = self.names.iter().flat_map(|(name, known)| {
            let moved = (known.changes > 0).then(|| format!("{name} moved {} times, noticed within seconds", known.changes));
            let lost = known
                .problem
                .as_ref()
                .map(|why| format!("{why}; its addresses from before are kept"));
            moved.into_iter().chain(lost)
        });
        let forwarded = self.forwards.then(|| format!("{FORWARDS}, and nothing is confirmed for them"));
        let gaps: Vec<String> = of_names
            .chain(self.scope.iter().flat_map(CgroupScope::gaps))
            .chain(forwarded)
            .collect();
        (!gaps.is_empty()).then(|| gaps.join("; "))
    }

    /// Adds to what was observed what the fault does not cover.
    pub fn noted(&self, view: &dyn HostView, (observation, look): (Option<Observation>, Look)) -> (Option<Observation>, Look) {
        let to_groups = self.to_groups.and_then(|sent| sent.gap(view));
        let observation = observation.map(|observation| Observation {
            note: [observation.note.clone(), self.gaps(), to_groups.clone()]
                .into_iter()
                .flatten()
                .reduce(|a, b| format!("{a}; {b}")),
            ..observation
        });
        (observation, look)
    }
}
