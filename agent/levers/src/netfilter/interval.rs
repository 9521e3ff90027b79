//! Networks and port ranges as the kernel's interval sets want them: merged, sorted, with exclusive ends; it knows no set by name.

use std::net::IpAddr;

use proto_model::peer::Network;
use proto_model::quantity::PortRange;

/// Numbers from `first` to `last`, both included, of a key some bytes wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    first: u128,
    last: u128,
}

/// Keys of one width in bytes (2, 4 or 16), as disjoint spans that do not touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spans {
    width: usize,
    spans: Vec<Span>,
}

/// One element of an interval set: where a span begins, or the first key behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub key: Vec<u8>,
    pub is_end: bool,
}

impl Spans {
    pub fn v4(networks: &[Network]) -> Self {
        Self::merged(4, networks.iter().filter(|n| n.address.is_ipv4()).map(span_of).collect())
    }

    pub fn v6(networks: &[Network]) -> Self {
        Self::merged(16, networks.iter().filter(|n| n.address.is_ipv6()).map(span_of).collect())
    }

    pub fn ports(ranges: &[PortRange]) -> Self {
        let span = |range: &PortRange| Span {
            first: range.first.into(),
            last: range.last.into(),
        };
        Self::merged(2, ranges.iter().map(span).collect())
    }

    fn merged(width: usize, mut spans: Vec<Span>) -> Self {
        spans.retain(|span| span.first <= span.last);
        spans.sort_unstable();
        let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut() {
                Some(before) if span.first <= before.last.saturating_add(1) => before.last = before.last.max(span.last),
                _ => merged.push(span),
            }
        }
        Self { width, spans: merged }
    }

    /// Bytes of a key.
    pub fn width(&self) -> usize {
        self.width
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// In ascending order. Like the nft tool does, an end at zero comes first unless a span begins there;
    /// a span up to the last key has no end.
    pub fn elements(&self) -> Vec<Element> {
        let mut elements = Vec::with_capacity(self.spans.len() * 2 + 1);
        if self.spans.first().is_some_and(|span| span.first > 0) {
            elements.push(self.element(0, true));
        }
        for span in &self.spans {
            elements.push(self.element(span.first, false));
            if span.last < self.last_key() {
                elements.push(self.element(span.last + 1, true));
            }
        }
        elements
    }

    fn element(&self, key: u128, is_end: bool) -> Element {
        let bytes = key.to_be_bytes();
        Element {
            key: bytes[bytes.len() - self.width..].to_vec(),
            is_end,
        }
    }

    fn last_key(&self) -> u128 {
        u128::MAX >> (128 - 8 * self.width)
    }
}

fn span_of(network: &Network) -> Span {
    let (number, width) = match network.address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let free = width - u32::from(network.prefix).min(width);
    let rest = u128::MAX.checked_shr(128 - free).unwrap_or(0);
    Span {
        first: number & !rest,
        last: number | rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    /// What the kernel's tree answers: the nearest element at or below the key decides.
    fn holds(elements: &[Element], key: &[u8]) -> bool {
        elements.iter().rfind(|e| e.key.as_slice() <= key).is_some_and(|e| !e.is_end)
    }

    fn v4_holds(texts: &[&str], address: &str) -> bool {
        let address: std::net::Ipv4Addr = address.parse().unwrap();
        holds(&Spans::v4(&networks(texts)).elements(), &address.octets())
    }

    #[test]
    fn overlapping_and_touching_networks_become_one() {
        let spans = Spans::v4(&networks(&["10.0.0.0/9", "10.128.0.0/9", "10.1.2.3", "10.0.0.0/8", "11.0.0.0/8"]));
        assert_eq!(spans.spans.len(), 1);
        let spans = Spans::v4(&networks(&["192.0.2.1", "192.0.2.3"]));
        assert_eq!(spans.spans.len(), 2);
    }

    #[test]
    fn the_edges_of_the_address_space() {
        let all = Spans::v4(&networks(&["0.0.0.0/0"])).elements();
        assert_eq!(
            all,
            vec![Element {
                key: vec![0; 4],
                is_end: false
            }]
        );
        let all = Spans::v6(&networks(&["::/0"])).elements();
        assert_eq!(
            all,
            vec![Element {
                key: vec![0; 16],
                is_end: false
            }]
        );
        let last = Spans::v4(&networks(&["255.255.255.255"])).elements();
        assert_eq!(last.len(), 2, "an end at zero and an open span");
        assert!(last[0].is_end && !last[1].is_end);
        let last = Spans::v6(&networks(&["ffff::/16"])).elements();
        assert!(!last[1].is_end && last.len() == 2);
    }

    #[test]
    fn an_address_is_held_exactly_when_a_network_has_it() {
        for (address, expected) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("192.0.2.4", true),
            ("192.0.2.5", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
        ] {
            assert_eq!(v4_holds(&["10.0.0.0/8", "192.0.2.4"], address), expected, "{address}");
        }
        assert!(v4_holds(&["0.0.0.0", "255.255.255.255"], "0.0.0.0"));
        assert!(!v4_holds(&["0.0.0.0", "255.255.255.255"], "0.0.0.1"));
        assert!(v4_holds(&["0.0.0.0", "255.255.255.255"], "255.255.255.255"));
        assert!(!v4_holds(&["2001:db8::/32"], "10.0.0.1"), "families do not mix");
    }

    #[test]
    fn ports_of_both_ends() {
        let range = |first, last| PortRange { first, last };
        let elements = Spans::ports(&[range(1, 79), range(80, 80), range(65535, 65535)]).elements();
        for (port, expected) in [(0_u16, false), (1, true), (80, true), (81, false), (65534, false), (65535, true)] {
            assert_eq!(holds(&elements, &port.to_be_bytes()), expected, "{port}");
        }
        assert!(Spans::ports(&[]).elements().is_empty());
    }

    #[test]
    fn random_networks_hold_what_their_prefixes_say() {
        for _ in 0..200 {
            let some: Vec<Network> = (0..rand::random::<u8>() % 20)
                .map(|_| {
                    let address = std::net::Ipv4Addr::from(rand::random::<u32>() & 0x0f00_00ff);
                    Network::parse(&format!("{address}/{}", rand::random::<u8>() % 33)).unwrap()
                })
                .collect();
            let elements = Spans::v4(&some).elements();
            for _ in 0..50 {
                let address = std::net::Ipv4Addr::from(rand::random::<u32>() & 0x0f00_00ff);
                let expected = some.iter().any(|n| n.contains(address.into()));
                assert_eq!(holds(&elements, &address.octets()), expected, "{address} in {some:?}");
            }
            let keys: Vec<&Vec<u8>> = elements.iter().map(|e| &e.key).collect();
            assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "no key twice: {some:?}");
        }
    }
}
