//! Which packets a network fault means and what becomes of them, as data; encoding it for the kernel is done elsewhere.

use proto_model::peer::Network;
use proto_model::quantity::PortRange;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The way of the packets, seen from this host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Out,
    In,
    #[default]
    Both,
}

impl Direction {
    pub fn covers_out(self) -> bool {
        self != Self::In
    }

    pub fn covers_in(self) -> bool {
        self != Self::Out
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

/// What becomes of a packet that is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PacketFate {
    /// Vanishes.
    #[default]
    Drop,
    /// Answered with an ICMP error: refuses new connections; established ones only stall.
    Reject,
    /// TCP is answered with a reset; anything else vanishes.
    Reset,
}

/// The packets of one injection and their fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSpec {
    /// Remote networks, both families; 0.0.0.0/0 and ::/0 for any.
    pub peers: Vec<Network>,
    pub except: Vec<Network>,
    /// Remote ports; empty for all.
    pub ports: Vec<PortRange>,
    pub local_ports: Vec<PortRange>,
    pub protocol: Option<Protocol>,
    pub interface: Option<String>,
    pub direction: Direction,
    pub fate: PacketFate,
    /// Milliseconds after which the kernel ends it by itself unless renewed.
    pub gate_ms: u64,
}

/// What no network fault may ever touch on this host, besides loopback, port 22, DHCP and neighbour discovery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spared {
    /// The controller's addresses and port.
    pub controllers: Vec<std::net::SocketAddr>,
    pub networks: Vec<Network>,
    pub ports: Vec<PortRange>,
}
