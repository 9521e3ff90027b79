//! Our shaped paths as values: what they are made of, what the kernel counted, and the interfaces that they stand on.

use proto_model::id::InjectionId;
use serde::{Deserialize, Serialize};

use super::names;

/// What the kernel counted of one shaped path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathCounters {
    /// Packets and bytes that were led into the path.
    pub led_packets: u64,
    pub led_bytes: u64,
    /// Packets that came out of it.
    pub passed_packets: u64,
    /// Packets that the path lost, by its nature or because it was full.
    pub dropped_packets: u64,
    /// Packets that are in it now.
    pub waiting_packets: u64,
    /// Whether its link is there, with a queue that does something to packets.
    pub shaped: bool,
    /// How many filters lead packets into it.
    pub filters: usize,
    /// Whether the deadline after which the kernel leads nothing into it is still to come.
    pub gate_open: bool,
}

/// One thing of ours that shaping made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathThing {
    /// An ifb; its name holds eight characters of the injection's id.
    Link { name: String },
    /// A filter on an interface.
    Filter { injection: InjectionId, interface: String },
    /// A clsact that we made on an interface, with the injections whose filters hang on it.
    Clsact { interface: String, users: Vec<InjectionId> },
}

impl PathThing {
    /// Whether it is there because of this injection.
    pub fn is_of(&self, injection: &InjectionId) -> bool {
        match self {
            Self::Link { name } => *name == names::link_of(injection),
            Self::Filter { injection: of, .. } => of == injection,
            Self::Clsact { users, .. } => users.contains(injection),
        }
    }
}

impl std::fmt::Display for PathThing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Link { name } => write!(f, "link {name}"),
            Self::Filter { injection, interface } => write!(f, "filter of {injection} on {interface}"),
            Self::Clsact { interface, .. } => write!(f, "clsact of ours on {interface}"),
        }
    }
}

/// Who holds an interface's clsact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clsact {
    Absent,
    Ours,
    Foreign,
    /// An older `ingress` queue is in its place: packets that leave cannot be reached.
    Taken,
}

/// An interface that packets of some peers pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathInterface {
    pub index: u32,
    pub name: String,
    pub clsact: Clsact,
    /// Preferences that filters of others hold, in words: those see packets before us, or no longer see ours.
    pub foreign_filters: Vec<String>,
    /// Preferences at which no filter of ours may be added.
    pub taken: Vec<u16>,
}
