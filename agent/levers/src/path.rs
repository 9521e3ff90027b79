//! Which packets take a worse path and how bad it is, as data; making the path is done elsewhere.

use agent_view::PathInterface;
use agent_view::tc::listing::Hook;
use proto_model::peer::Network;
use proto_model::quantity::PortRange;
use serde::{Deserialize, Serialize};

use crate::traffic::{Direction, Exemptions, Protocol, TrafficSpec};
use crate::work::packets::{Delay, GilbertElliott, Harm};

/// Networks that one path may name; more is a mistake.
pub const MAX_NETWORKS: usize = 10_000;
/// Ranges of ports, of one sort, that one path may name.
pub const MAX_PORT_RANGES: usize = 64;
/// The longest delay, in microseconds, jitter included.
pub const MAX_DELAY_US: u64 = 60_000_000;
/// Bytes of an interface's name, without its end.
const MAX_INTERFACE: usize = 15;
/// How long the packets that are in a path may take to leave it when it is closed, at most.
pub const DRAIN_AT_MOST_MS: u64 = 1_500;
/// A moment for what is on its way into the path when it is closed.
const SLACK_MS: u64 = 50;
/// The kernel counts a jitter in 31 bits of nanoseconds, and takes more for less.
const MAX_JITTER_US: u64 = 2_147_483;
/// Packets per second for which a path has room.
const EXPECTED_PACKETS_PER_SECOND: u64 = 200_000;
const FEWEST_PACKETS: u64 = 1_000;
const MOST_PACKETS: u64 = 200_000;
const US_PER_SECOND: u64 = 1_000_000;
const US_PER_MS: u64 = 1_000;

/// The packets that are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// Remote networks, both families; 0.0.0.0/0 and ::/0 for any.
    pub peers: Vec<Network>,
    pub except: Vec<Network>,
    /// Remote ports; empty for all.
    pub ports: Vec<PortRange>,
    pub local_ports: Vec<PortRange>,
    pub protocol: Option<Protocol>,
    /// None for every interface that leads to the peers.
    pub interface: Option<String>,
    pub direction: Direction,
}

impl Packets {
    pub(crate) fn hooks(&self) -> impl Iterator<Item = Hook> {
        let direction = self.direction;
        Hook::BOTH.into_iter().filter(move |hook| match hook {
            Hook::Out => direction.covers_out(),
            Hook::In => direction.covers_in(),
        })
    }

    /// One for each family at each hook.
    pub(crate) fn filters_per_interface(&self) -> usize {
        2 * self.hooks().count()
    }
}

impl From<&TrafficSpec> for Packets {
    fn from(spec: &TrafficSpec) -> Self {
        Self {
            peers: spec.peers.clone(),
            except: spec.except.clone(),
            ports: spec.ports.clone(),
            local_ports: spec.local_ports.clone(),
            protocol: spec.protocol,
            interface: spec.interface.clone(),
            direction: spec.direction,
        }
    }
}

/// A bandwidth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub bytes_per_second: u64,
    /// What may pass at once after a rest.
    pub burst_bytes: u32,
}

/// What happens on the path.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    Delay(Delay),
    Loss(GilbertElliott),
    /// The kernel needs no netem for this one.
    Rate(Rate),
}

impl From<Harm> for Shape {
    fn from(harm: Harm) -> Self {
        match harm {
            Harm::Delay(delay) => Self::Delay(delay),
            Harm::Loss(model) => Self::Loss(model),
        }
    }
}

impl Shape {
    /// Why the kernel's queue would do something else than what is asked, if so.
    pub fn is_beyond_netem(&self) -> Option<&'static str> {
        let Self::Delay(delay) = self else { return None };
        match delay {
            _ if delay.jitter_us > 0 && delay.correlation > 0.0 => Some("netem narrows the jitter of delays that are alike"),
            _ if delay.jitter_us > MAX_JITTER_US => Some("netem cuts a jitter of more than two seconds short"),
            _ if self.longest_us() / US_PER_MS + SLACK_MS > DRAIN_AT_MOST_MS => {
                Some("at its end netem would drop packets that are under way for so long")
            }
            _ => None,
        }
    }

    fn longest_us(&self) -> u64 {
        match self {
            Self::Delay(delay) => u64::try_from(delay.longest().as_micros()).unwrap_or(u64::MAX),
            Self::Loss(_) | Self::Rate(_) => 0,
        }
    }

    /// How many packets the path holds before it drops more.
    pub fn room_packets(&self) -> u32 {
        let held = self.longest_us().saturating_mul(EXPECTED_PACKETS_PER_SECOND) / US_PER_SECOND;
        u32::try_from(held.clamp(FEWEST_PACKETS, MOST_PACKETS)).unwrap_or(u32::MAX)
    }

    /// How long to wait for the packets in it when it is closed.
    pub fn drain_ms(&self) -> u64 {
        match self {
            Self::Rate(_) => DRAIN_AT_MOST_MS,
            _ => (self.longest_us() / US_PER_MS + SLACK_MS).min(DRAIN_AT_MOST_MS),
        }
    }
}

/// The packets of one injection and their path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathSpec {
    pub packets: Packets,
    pub shape: Shape,
}

/// Where packets are led into a path, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathOpening {
    pub interfaces: Vec<PathInterface>,
    /// Of the filters for IPv4; those for IPv6 get the next.
    pub preference: u16,
    pub exemptions: Exemptions,
    /// Milliseconds after which the kernel ends it by itself unless renewed.
    pub gate_ms: u64,
}

/// An interface whose clsact we use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClsactPlace {
    /// Its name then, for people; the index is what counts.
    pub interface: String,
    pub index: u32,
    /// There was no clsact before, so one that nothing hangs on is ours although it bears no mark yet.
    pub was_absent: bool,
}

/// What became of a clsact that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClsactRemoval {
    Removed,
    /// There is none any more.
    Gone,
    /// Another injection of ours uses it.
    InUse,
    /// It is not ours.
    Foreign,
    /// It was ours; so many filters of others hang on it now that it stays, without our mark.
    HandedOver {
        foreign_filters: usize,
    },
}

/// What the kernel would take and misunderstand, or refuse in words nobody understands.
pub(crate) fn check(spec: &PathSpec) -> Result<(), String> {
    check_packets(&spec.packets)?;
    check_shape(&spec.shape)
}

pub(crate) fn check_packets(packets: &Packets) -> Result<(), String> {
    let networks = packets.peers.len() + packets.except.len();
    let ranges = packets.ports.len().max(packets.local_ports.len());
    let has_ports = ranges > 0;
    match &packets.interface {
        _ if packets.peers.is_empty() => Err("it names no peer".into()),
        _ if networks > MAX_NETWORKS => Err(format!("it names {networks} networks (allowed: up to {MAX_NETWORKS})")),
        _ if ranges > MAX_PORT_RANGES => Err(format!("it names {ranges} ranges of ports (allowed: up to {MAX_PORT_RANGES})")),
        _ if packets.protocol == Some(Protocol::Icmp) && has_ports => Err("icmp has no ports".into()),
        Some(name) if name.is_empty() || name.len() > MAX_INTERFACE => Err(format!("{name:?} is not the name of an interface")),
        _ => Ok(()),
    }
}

fn check_shape(shape: &Shape) -> Result<(), String> {
    match shape {
        Shape::Delay(delay) if delay.delay_us == 0 => Err("a delay of nothing is none".into()),
        Shape::Delay(delay) if delay.delay_us.saturating_add(delay.jitter_us) > MAX_DELAY_US => {
            Err(format!("the delay is too long (allowed: up to {MAX_DELAY_US} us with its jitter)"))
        }
        Shape::Loss(model) => match [model.p, model.r, model.lost_in_bad, model.lost_in_good]
            .iter()
            .find(|share| !(0.0..=1.0).contains(*share))
        {
            Some(odd) => Err(format!("{odd} is no share (allowed: 0 to 1)")),
            None => Ok(()),
        },
        Shape::Rate(rate) if rate.bytes_per_second == 0 || rate.burst_bytes == 0 => {
            Err("a bandwidth or burst of nothing passes nothing".into())
        }
        _ => shape.is_beyond_netem().map_or(Ok(()), |why| Err(why.into())),
    }
}

#[cfg(test)]
pub(crate) fn example() -> PathSpec {
    PathSpec {
        packets: Packets::from(&crate::traffic::example()),
        shape: Shape::Loss(GilbertElliott::correlated(0.2, 0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::packets::Distribution;

    fn delay(ms: u64) -> Delay {
        Delay {
            delay_us: ms * 1_000,
            jitter_us: 0,
            distribution: Distribution::Normal,
            correlation: 0.0,
        }
    }

    #[test]
    fn a_path_has_room_for_its_delay_and_no_more_than_memory_allows() {
        for (ms, packets) in [(1, 1_000), (100, 20_000), (60_000, 200_000)] {
            assert_eq!(Shape::Delay(delay(ms)).room_packets(), packets);
        }
    }

    #[test]
    fn waiting_for_the_last_packets_has_a_limit_within_which_every_delay_ends() {
        assert_eq!(Shape::Delay(delay(40)).drain_ms(), 90);
        assert_eq!(Shape::Delay(delay(1_450)).is_beyond_netem(), None);
        assert!(Shape::Delay(delay(1_451)).is_beyond_netem().is_some());
    }

    #[test]
    fn nonsense_and_what_netem_says_otherwise_are_refused_before_anything_happens() {
        let alike = |jitter_ms: u64, correlation| {
            Shape::Delay(Delay {
                jitter_us: jitter_ms * 1_000,
                correlation,
                ..delay(100)
            })
        };
        let loss = |share| Shape::Loss(GilbertElliott::correlated(share, 0.25));
        for (shape, fine) in [
            (Shape::Delay(delay(40)), true),
            (Shape::Delay(delay(0)), false),
            (Shape::Delay(delay(60_001)), false),
            (alike(20, 0.0), true),
            (alike(20, 0.25), false),
            (alike(0, 0.25), true),
            (loss(0.2), true),
            (loss(1.5), false),
            (loss(f64::NAN), false),
        ] {
            assert_eq!(check_shape(&shape).is_ok(), fine, "{shape:?}");
        }
    }
}
