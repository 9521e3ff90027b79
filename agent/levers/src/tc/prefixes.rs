//! Peers and exceptions as one table in which the longest prefix decides; it is written to the kernel elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proto_model::peer::Network;

use super::classifier::Family;

/// Whether addresses below a prefix take the path.
pub(super) type Table = BTreeMap<Vec<u8>, bool>;

/// Bytes of a value.
pub(super) const VALUE: usize = 4;

/// Keys as the kernel wants them: the prefix's length in the machine's order, then the address.
///
/// An exception counts whatever is inside of it, so peers inside of one are left out: then the longest prefix is right.
pub(super) fn table(family: Family, peers: &[Network], except: &[&[Network]]) -> Table {
    let of_family = |network: &&Network| family.is_of(network.address);
    let excepted: BTreeSet<Network> = except.iter().copied().flatten().filter(of_family).copied().collect();
    let inside = |peer: &&Network| (0..=peer.prefix).any(|prefix| excepted.contains(&shortened(peer, prefix)));
    let meant = peers.iter().filter(of_family).filter(|peer| !inside(peer));
    let taking = meant.map(|network| (key(network), true));
    taking.chain(excepted.iter().map(|network| (key(network), false))).collect()
}

pub(super) fn value(takes: bool) -> [u8; VALUE] {
    u32::from(takes).to_ne_bytes()
}

fn key(network: &Network) -> Vec<u8> {
    let length = u32::from(network.prefix).to_ne_bytes();
    match network.address {
        IpAddr::V4(v4) => [&length[..], &v4.octets()].concat(),
        IpAddr::V6(v6) => [&length[..], &v6.octets()].concat(),
    }
}

fn shortened(network: &Network, prefix: u8) -> Network {
    let address = match network.address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((u32::from(v4) & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((u128::from(v6) & mask).to_be_bytes())
        }
    };
    Network { address, prefix }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    /// What the kernel's tree answers.
    fn takes(table: &Table, address: IpAddr) -> bool {
        let full = if address.is_ipv4() { 32 } else { 128 };
        let networks = (0..=full).rev().map(|prefix| shortened(&Network::host(address), prefix));
        networks.filter_map(|n| table.get(&key(&n))).next().copied().unwrap_or(false)
    }

    #[test]
    fn an_exception_counts_for_all_that_is_inside_of_it() {
        let peers = networks(&["10.0.0.0/8", "10.1.2.0/24", "192.0.2.1", "2001:db8::/32"]);
        let (first, second) = (networks(&["10.1.0.0/16"]), networks(&["192.0.2.1", "2001:db8::1"]));
        let four = table(Family::V4, &peers, &[&first, &second]);
        for (address, expected) in [("10.0.0.1", true), ("10.1.2.3", false), ("10.1.9.9", false), ("192.0.2.1", false)] {
            assert_eq!(takes(&four, address.parse().unwrap()), expected, "{address}");
        }
        let six = table(Family::V6, &peers, &[&first, &second]);
        assert!(takes(&six, "2001:db8::2".parse().unwrap()) && !takes(&six, "2001:db8::1".parse().unwrap()));
        assert!(table(Family::V6, &networks(&["0.0.0.0/0"]), &[]).is_empty());
    }

    #[test]
    fn random_networks_take_what_is_a_peers_and_no_exceptions() {
        let some = || -> Vec<Network> {
            let one = |_| {
                let address = std::net::Ipv4Addr::from(rand::random::<u32>() & 0x0f00_00ff);
                Network::parse(&format!("{address}/{}", rand::random::<u8>() % 33)).unwrap()
            };
            (0..rand::random::<u8>() % 12).map(one).collect()
        };
        for _ in 0..300 {
            let (peers, except) = (some(), some());
            let table = table(Family::V4, &peers, &[&except]);
            for _ in 0..30 {
                let address = IpAddr::from((rand::random::<u32>() & 0x0f00_00ff).to_be_bytes());
                let expected = peers.iter().any(|n| n.contains(address)) && !except.iter().any(|n| n.contains(address));
                assert_eq!(takes(&table, address), expected, "{address}: {peers:?} except {except:?}");
            }
        }
    }
}
