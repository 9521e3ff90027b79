//! Peers of network faults as a person writes them: labels, networks, names, `any`; resolving them is not done here.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::HostName;
use crate::selector::Selector;

/// The schema format by which the planner finds peers without knowing any kind.
pub const PEERS_FORMAT: &str = "fracas-peers";

/// The bits of `::ffff:0:0/96`, before an address of IPv4 that is written as one of IPv6.
const MAPPED_PREFIX: u8 = 96;

/// An address and how many of its leading bits count. One of IPv4 that is mapped into IPv6 is one of IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Network {
    pub fn host(address: IpAddr) -> Self {
        Self {
            address,
            prefix: if address.is_ipv4() { 32 } else { 128 },
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let full = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(full);
        if prefix > full {
            return None;
        }
        // Sockets of IPv6 name hosts of IPv4 so; their packets are of IPv4.
        let (address, prefix) = match address.to_canonical() {
            v4 @ IpAddr::V4(_) if address.is_ipv6() && prefix >= MAPPED_PREFIX => (v4, prefix - MAPPED_PREFIX),
            _ => (address, prefix),
        };
        Some(Self {
            address: masked(address, prefix),
            prefix,
        })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.address.is_ipv4() == address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)).into()),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::host(self.address) {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

/// The remote side of a network fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    Any,
    Network(Network),
    /// Resolved on the host, again and again while the fault acts.
    Name(String),
    /// Replaced by addresses in the planner, before the digest.
    Host(HostName),
    /// Likewise.
    Labels(Selector),
}

impl Peer {
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "any" {
            return Ok(Self::Any);
        }
        if text.contains('=') || text.contains(" in (") || text.contains("has(") {
            return Selector::parse(text).map(Self::Labels).map_err(|e| e.to_string());
        }
        if let Some(network) = Network::parse(text) {
            return Ok(Self::Network(network));
        }
        if let Some(name) = text.strip_prefix("host:") {
            return HostName::parse(name).map(Self::Host).map_err(|e| e.to_string());
        }
        let dns = !text.is_empty() && text.len() <= 253 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if dns && !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(format!(
            "{text:?} is not a peer: expected a selector (role=cache), a network (10.0.0.0/8), a DNS name, host:NAME or any"
        ))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Network(network) => write!(f, "{network}"),
            Self::Name(name) => f.write_str(name),
            Self::Host(name) => write!(f, "host:{name}"),
            Self::Labels(selector) => write!(f, "{selector}"),
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is not a network such as 10.0.0.0/8")))
    }
}

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl JsonSchema for Peer {
    fn schema_name() -> Cow<'static, str> {
        "Peer".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": PEERS_FORMAT })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_network_is_the_one_of_ipv4_that_it_names() {
        let parse = |text| Network::parse(text).unwrap();
        assert_eq!(parse("::ffff:10.0.0.0/104"), parse("10.0.0.0/8"));
        assert_eq!(parse("::ffff:192.0.2.7"), parse("192.0.2.7"));
        assert!(parse("10.0.0.0/8").contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(parse("::ffff:10.0.0.0/104").contains("10.1.2.3".parse().unwrap()));
        assert!(!parse("::ffff:0:0/95").address.is_ipv4());
    }

    #[test]
    fn each_way_of_writing_a_peer() {
        assert_eq!(Peer::parse("any"), Ok(Peer::Any));
        assert!(matches!(Peer::parse("role=cache"), Ok(Peer::Labels(_))));
        assert!(matches!(Peer::parse("10.0.0.0/8"), Ok(Peer::Network(_))));
        assert!(matches!(Peer::parse("fd00::1"), Ok(Peer::Network(_))));
        assert!(matches!(Peer::parse("host:web"), Ok(Peer::Host(_))));
        assert!(matches!(Peer::parse("db.example"), Ok(Peer::Name(_))));
        for bad in ["", "10.0.0.0/33", "300.1.1.1", "a b"] {
            assert!(Peer::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_network_holds_what_its_prefix_says() {
        let network = Network::parse("10.1.2.3/8").unwrap();
        assert_eq!(network.to_string(), "10.0.0.0/8");
        assert!(network.contains("10.9.9.9".parse().unwrap()));
        assert!(!network.contains("11.0.0.1".parse().unwrap()));
        assert!(Network::parse("0.0.0.0/0").unwrap().contains("8.8.8.8".parse().unwrap()));
        assert!(!Network::parse("0.0.0.0/0").unwrap().contains("::1".parse().unwrap()));
    }
}
