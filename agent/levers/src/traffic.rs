//! Which packets a network fault means and what becomes of them, as data; encoding it for the kernel is done elsewhere.

use agent_view::UnifiedGroup;
use proto_model::id::InjectionId;
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

/// What becomes of the packets of an injection, in the words of the levers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Cut(PacketFate),
    Lose(Lose),
    /// They are handed to queues that a worker of ours reads; where nobody reads, they pass.
    Queue(Queues),
}

impl From<PacketFate> for Fate {
    fn from(fate: PacketFate) -> Self {
        Self::Cut(fate)
    }
}

/// A share of the packets vanishes, each by its own luck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lose {
    pub per_million: u32,
    /// The number of a queue that nobody reads: what is sent into it is gone, and unlike with a drop its sender is not told.
    pub sink: u16,
}

/// The NFQUEUEs of one injection; each is read by nobody else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    pub out: Option<u16>,
    #[serde(rename = "in")]
    pub inward: Option<u16>,
}

/// Numbers of queues that workers read, two for each injection; people use low ones.
const WORKED: std::ops::Range<u16> = 0x8000..0xe000;
/// Numbers of queues that nobody reads.
const SINKS: std::ops::Range<u16> = 0xe000..0xff00;

impl Queues {
    /// A pair for this injection where both are free; `taken` are numbers that somebody reads.
    pub fn choose(injection: &InjectionId, direction: Direction, taken: &[u16]) -> Option<Self> {
        let pairs = u32::from(WORKED.end - WORKED.start) / 2;
        let first = luck_of(injection) % pairs;
        let mut candidates = (0..pairs).map(|step| WORKED.start + 2 * number((first + step) % pairs));
        let out = candidates.find(|n| !taken.contains(n) && !taken.contains(&(n + 1)))?;
        Some(Self {
            out: direction.covers_out().then_some(out),
            inward: direction.covers_in().then_some(out + 1),
        })
    }

    pub fn numbers(self) -> impl Iterator<Item = u16> {
        self.out.into_iter().chain(self.inward)
    }
}

impl Lose {
    /// With a sink of the injection's own; `taken` are numbers that somebody reads.
    pub fn choose(injection: &InjectionId, per_million: u32, taken: &[u16]) -> Option<Self> {
        let sinks = u32::from(SINKS.end - SINKS.start);
        let first = luck_of(injection) % sinks;
        let sink = (0..sinks)
            .map(|step| SINKS.start + number((first + step) % sinks))
            .find(|n| !taken.contains(n))?;
        Some(Self { per_million, sink })
    }
}

fn number(of: u32) -> u16 {
    u16::try_from(of).unwrap_or(0)
}

/// The same for the same injection, and spread evenly over others (FNV-1a).
fn luck_of(injection: &InjectionId) -> u32 {
    let bytes = injection.as_str().bytes();
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Groups of the unified hierarchy (cgroup v2), all as deep below its root. They mean the sockets that were made in them or below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketGroups {
    pub level: u32,
    /// The kernel's numbers for them.
    pub ids: Vec<u64>,
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
    /// Only packets of their sockets; everybody's when there are none.
    pub groups: Option<SocketGroups>,
    /// The group of a worker of ours whose own questions are to meet the fault as well, although it is in none of `groups`.
    pub prober: Option<UnifiedGroup>,
    pub direction: Direction,
    pub fate: Fate,
    /// Milliseconds after which the kernel ends it by itself unless renewed.
    pub gate_ms: u64,
}

/// What no network fault may ever touch on this host, besides loopback, port 22, DHCP and neighbour discovery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemptions {
    /// The controller's addresses and port.
    pub controllers: Vec<std::net::SocketAddr>,
    pub networks: Vec<Network>,
    pub ports: Vec<PortRange>,
}

/// What may be changed about the levers on packets while they act.
#[derive(Debug)]
pub(crate) enum PacketAim {
    /// The packets of these peers and groups are meant, except those.
    Peers(Box<TrafficSpec>, Exemptions),
    /// The controller is at these addresses, which are left alone.
    Controllers(Vec<std::net::SocketAddr>),
}

#[cfg(test)]
pub(crate) fn example() -> TrafficSpec {
    TrafficSpec {
        peers: Network::parse("192.0.2.0/24").into_iter().collect(),
        except: Vec::new(),
        ports: Vec::new(),
        local_ports: Vec::new(),
        protocol: None,
        interface: None,
        groups: None,
        prober: None,
        direction: Direction::Both,
        fate: PacketFate::Drop.into(),
        gate_ms: 15_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_injections_own_and_step_over_what_is_taken() {
        let id = InjectionId::generate();
        let first = Queues::choose(&id, Direction::Both, &[]).unwrap();
        assert_eq!(Some(first), Queues::choose(&id, Direction::Both, &[]), "the same again");
        let (out, inward) = (first.out.unwrap(), first.inward.unwrap());
        assert!(WORKED.contains(&out) && inward == out + 1);
        let second = Queues::choose(&id, Direction::Out, &[inward]).unwrap();
        assert!(second.out != Some(out) && second.inward.is_none());
        let all: Vec<u16> = WORKED.collect();
        assert_eq!(Queues::choose(&id, Direction::Out, &all), None);
        let sink = Lose::choose(&id, 1, &[]).unwrap().sink;
        assert!(SINKS.contains(&sink) && Lose::choose(&id, 1, &[sink]).unwrap().sink != sink);
    }
}
