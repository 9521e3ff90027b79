//! Which packets an injection holds, as a claim that can be compared: two that could mean the same packet conflict. It resolves nothing.
//!
//! Written as `network:out:10.0.0.0/8` and, where it is narrower, ` protocol=tcp`, ` ports=80,443`, ` local_ports=8000-8100`
//! ` interface=eth0` or ` group=/system.slice/nginx.service` behind it. A DNS name stands for itself; who knows its addresses claims
//! them besides.

use std::fmt;

use agent_levers::{Direction, Protocol};
use proto_model::peer::{Network, Peer};
use proto_model::quantity::PortRange;

use crate::unit::is_within;

const PREFIX: &str = "network:";

/// What narrows the packets besides the peer; empty is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Narrowing {
    pub protocol: Option<Protocol>,
    pub ports: Vec<PortRange>,
    pub local_ports: Vec<PortRange>,
    pub interface: Option<String>,
    /// The path of the group (cgroup v2) whose packets they are.
    pub group: Option<String>,
}

/// The packets of one peer in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrafficClaim {
    out: bool,
    peer: Held,
    narrowing: Narrowing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    Network(Network),
    Name(String),
}

impl TrafficClaim {
    /// One per peer and direction.
    pub(crate) fn of(peers: &[Peer], direction: Direction, narrowing: &Narrowing) -> Vec<Self> {
        let ways = [(true, direction.covers_out()), (false, direction.covers_in())];
        let ways = ways.into_iter().filter(|(_, covered)| *covered).map(|(out, _)| out);
        ways.flat_map(|out| peers.iter().flat_map(held).map(move |peer| (out, peer)))
            .map(|(out, peer)| {
                let narrowing = narrowing.clone();
                Self { out, peer, narrowing }
            })
            .collect()
    }

    /// `None` when the text is a claim on something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (way, rest) = text.strip_prefix(PREFIX)?.split_once(':')?;
        let mut words = rest.split(' ');
        let peer = words.next()?;
        let mut narrowing = Narrowing::default();
        for word in words {
            narrowing.read(word)?;
        }
        Some(Self {
            out: way == "out",
            peer: Network::parse(peer).map_or_else(|| Held::Name(peer.to_owned()), Held::Network),
            narrowing,
        })
    }

    /// Whether one packet could be meant by both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.out == other.out && self.peer.may_be(&other.peer) && self.narrowing.overlaps(&other.narrowing)
    }
}

fn held(peer: &Peer) -> Vec<Held> {
    match peer {
        Peer::Any => ["0.0.0.0/0", "::/0"]
            .into_iter()
            .filter_map(Network::parse)
            .map(Held::Network)
            .collect(),
        Peer::Network(network) => vec![Held::Network(*network)],
        Peer::Name(name) => vec![Held::Name(name.to_ascii_lowercase())],
        Peer::Host(_) | Peer::Labels(_) => vec![Held::Name(peer.to_string().replace(' ', ""))],
    }
}

impl Held {
    fn may_be(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Network(a), Self::Network(b)) => a.contains(b.address) || b.contains(a.address),
            (Self::Name(a), Self::Name(b)) => a == b,
            (Self::Network(network), Self::Name(_)) | (Self::Name(_), Self::Network(network)) => network.prefix == 0,
        }
    }
}

impl Narrowing {
    fn read(&mut self, word: &str) -> Option<()> {
        let (key, value) = word.split_once('=')?;
        match key {
            "protocol" => self.protocol = serde_json::from_value(value.into()).ok(),
            "ports" => self.ports = ports(value)?,
            "local_ports" => self.local_ports = ports(value)?,
            "interface" => self.interface = Some(value.to_owned()),
            "group" => self.group = Some(value.to_owned()),
            _ => return None,
        }
        Some(())
    }

    fn overlaps(&self, other: &Self) -> bool {
        fn same<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        same(&self.protocol, &other.protocol)
            && same(&self.interface, &other.interface)
            && ports_meet(&self.ports, &other.ports)
            && ports_meet(&self.local_ports, &other.local_ports)
            && groups_meet(self.group.as_deref(), other.group.as_deref())
    }
}

fn ports(text: &str) -> Option<Vec<PortRange>> {
    text.split(',').map(|range| PortRange::parse(range).ok()).collect()
}

fn ports_meet(a: &[PortRange], b: &[PortRange]) -> bool {
    let meet = |x: &PortRange, y: &PortRange| x.first <= y.last && y.first <= x.last;
    a.is_empty() || b.is_empty() || a.iter().any(|x| b.iter().any(|y| meet(x, y)))
}

/// A socket is in one group, and in those above it.
fn groups_meet(a: Option<&str>, b: Option<&str>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    is_within(a, b) || is_within(b, a)
}

impl fmt::Display for TrafficClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}:", if self.out { "out" } else { "in" })?;
        match &self.peer {
            Held::Network(network) => write!(f, "{}/{}", network.address, network.prefix)?,
            Held::Name(name) => f.write_str(name)?,
        }
        write!(f, "{}", self.narrowing)
    }
}

impl fmt::Display for Narrowing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(protocol) = self.protocol {
            let word = match protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Icmp => "icmp",
            };
            write!(f, " protocol={word}")?;
        }
        for (key, ranges) in [("ports", &self.ports), ("local_ports", &self.local_ports)] {
            if !ranges.is_empty() {
                let ranges: Vec<String> = ranges.iter().map(PortRange::to_string).collect();
                write!(f, " {key}={}", ranges.join(","))?;
            }
        }
        if let Some(name) = &self.interface {
            write!(f, " interface={name}")?;
        }
        // One whose name cannot be read back is as good as any: in doubt they conflict.
        match self.group.as_ref().filter(|path| !path.contains(char::is_whitespace)) {
            Some(path) => write!(f, " group={path}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Claim;
    use super::*;

    fn conflict(a: &str, b: &str) -> bool {
        let (a, b) = (Claim(a.to_owned()), Claim(b.to_owned()));
        assert_eq!(a.conflicts_with(&b), b.conflicts_with(&a), "{a:?} {b:?}");
        a.conflicts_with(&b)
    }

    #[test]
    fn the_same_packets_conflict_and_others_do_not() {
        for (a, b, expected) in [
            ("network:out:10.0.0.2/32", "network:out:10.0.0.2/32", true),
            ("network:out:10.0.0.2/32", "network:out:10.0.0.0/8", true),
            ("network:out:10.0.0.2/32", "network:in:10.0.0.2/32", false),
            ("network:out:10.0.0.2/32", "network:out:10.0.0.3/32", false),
            ("network:out:0.0.0.0/0", "network:out:10.0.0.3/32", true),
            ("network:out:0.0.0.0/0", "network:out:fd00::1/128", false),
            ("network:out:::/0", "network:out:fd00::1/128", true),
            ("network:out:0.0.0.0/0", "network:out:db.example", true),
            ("network:out:db.example", "network:out:db.example", true),
            ("network:out:db.example", "network:out:web.example", false),
            (
                "network:out:10.0.0.2/32 protocol=tcp",
                "network:out:10.0.0.2/32 protocol=udp",
                false,
            ),
            ("network:out:10.0.0.2/32 protocol=tcp", "network:out:10.0.0.2/32 ports=53", true),
            (
                "network:out:10.0.0.2/32 ports=80,443",
                "network:out:10.0.0.2/32 ports=400-450",
                true,
            ),
            ("network:out:10.0.0.2/32 ports=80", "network:out:10.0.0.2/32 ports=81", false),
            ("network:out:10.0.0.2/32 ports=80", "network:out:10.0.0.2/32 local_ports=81", true),
            (
                "network:in:10.0.0.2/32 interface=eth0",
                "network:in:10.0.0.2/32 interface=eth1",
                false,
            ),
            (
                "network:in:10.0.0.2/32 group=/a/x.service",
                "network:in:10.0.0.2/32 group=/a/y.service",
                false,
            ),
            ("network:in:10.0.0.2/32 group=/a/x.service", "network:in:10.0.0.2/32 group=/a", true),
            ("network:in:10.0.0.2/32 group=/a/x.service", "network:in:10.0.0.2/32", true),
            ("network:in:10.0.0.2/32 group=/a/x", "network:in:10.0.0.2/32 group=/a/xy", false),
            ("cpu", "cpu", true),
            ("cpu", "network:out:10.0.0.2/32", false),
        ] {
            assert_eq!(conflict(a, b), expected, "{a} / {b}");
        }
    }

    #[test]
    fn what_is_claimed_is_read_back() {
        let narrowing = Narrowing {
            protocol: Some(Protocol::Tcp),
            ports: vec![PortRange { first: 80, last: 90 }, PortRange { first: 443, last: 443 }],
            local_ports: vec![PortRange { first: 1, last: 1 }],
            interface: Some("eth0".into()),
            group: Some("/system.slice/x.service".into()),
        };
        let peers = ["any", "2001:db8::/32", "192.0.2.7", "db.example"].map(|p| Peer::parse(p).unwrap());
        let claims = TrafficClaim::of(&peers, Direction::Both, &narrowing);
        assert_eq!(claims.len(), 10);
        for claim in claims {
            assert_eq!(TrafficClaim::parse(&claim.to_string()), Some(claim));
        }
        assert_eq!(
            TrafficClaim::of(&peers[2..3], Direction::Out, &Narrowing::default())[0].to_string(),
            "network:out:192.0.2.7/32"
        );
    }
}
