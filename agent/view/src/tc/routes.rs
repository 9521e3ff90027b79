//! Through which interfaces the packets of some networks come and go, by the routing tables; it adds no route.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_bindings::rt_route::{IterableRouteAttrs, Request, Rtmsg};
use proto_model::peer::Network;

use super::socket::{Route, RouteError};

/// The table of the host's own addresses: what goes there stays on the host.
const LOCAL_TABLE: u32 = 255;
const UNICAST: u8 = 1;
/// A next hop of a route with several: its length, flags, weight and interface; attributes follow (struct rtnexthop).
const NEXT_HOP_BYTES: usize = 8;

/// A route of some table, and the interfaces it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    table: u32,
    to: Network,
    links: Vec<u32>,
}

/// The indexes of those interfaces.
pub(super) fn links_to(kernel: &mut Route, peers: &[Network]) -> Result<BTreeSet<u32>, RouteError> {
    let mut ways = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        ways.extend(read(kernel, family as u8)?);
    }
    Ok(peers.iter().flat_map(|peer| links_of(&ways, peer)).collect())
}

/// Per table: every way into a part of the peer's network, and the closest ones that hold all of it.
fn links_of(ways: &[Way], peer: &Network) -> Vec<u32> {
    let tables: BTreeSet<u32> = ways.iter().map(|way| way.table).collect();
    let of_table = |table: u32| {
        let inside = move |way: &&Way| way.table == table && way.to.prefix > peer.prefix && peer.contains(way.to.address);
        let around = move |way: &&Way| way.table == table && way.to.prefix <= peer.prefix && way.to.contains(peer.address);
        let closest = ways.iter().filter(around).map(|way| way.to.prefix).max();
        let holding = ways.iter().filter(around).filter(move |way| Some(way.to.prefix) == closest);
        ways.iter().filter(inside).chain(holding)
    };
    let found = tables.into_iter().flat_map(of_table);
    found.flat_map(|way| way.links.clone()).collect()
}

fn read(kernel: &mut Route, family: u8) -> Result<Vec<Way>, RouteError> {
    let mut head = Rtmsg::new();
    head.rtm_family = family;
    let listed = kernel.ask(&Request::new().op_getroute_dump(&head), |(head, route)| way_of(&head, &route));
    match listed {
        // A kernel without this family routes none of it.
        Err(error) if matches!(error.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => Ok(Vec::new()),
        listed => listed,
    }
}

fn way_of(head: &Rtmsg, route: &IterableRouteAttrs<'_>) -> Option<Way> {
    let table = route.get_table().unwrap_or(head.rtm_table.into());
    if head.rtm_type != UNICAST || table == LOCAL_TABLE {
        return None;
    }
    let any: IpAddr = if i32::from(head.rtm_family) == libc::AF_INET {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0; 16])
    };
    let several = route.get_multipath().map(next_hops).unwrap_or_default();
    Some(Way {
        table,
        to: Network {
            address: route.get_dst().unwrap_or(any),
            prefix: head.rtm_dst_len,
        },
        links: route.get_oif().into_iter().chain(several).collect(),
    })
}

fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut links = Vec::new();
    while let Some(hop) = bytes.get(..NEXT_HOP_BYTES) {
        let length = usize::from(u16::from_ne_bytes([hop[0], hop[1]]));
        links.push(u32::from_ne_bytes([hop[4], hop[5], hop[6], hop[7]]));
        let next = length.max(NEXT_HOP_BYTES).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(table: u32, to: &str, links: &[u32]) -> Way {
        Way {
            table,
            to: Network::parse(to).unwrap(),
            links: links.to_vec(),
        }
    }

    fn to(ways: &[Way], peer: &str) -> Vec<u32> {
        let found: BTreeSet<u32> = links_of(ways, &Network::parse(peer).unwrap()).into_iter().collect();
        found.into_iter().collect()
    }

    #[test]
    fn the_closest_way_counts_and_every_way_inside_a_network() {
        let ways = [
            way(254, "0.0.0.0/0", &[1]),
            way(254, "10.0.0.0/8", &[2]),
            way(254, "10.1.0.0/16", &[3, 4]),
            way(100, "10.1.0.0/24", &[5]),
            way(254, "::/0", &[6]),
            way(254, "2001:db8::/32", &[7]),
        ];
        assert_eq!(to(&ways, "192.0.2.1"), [1]);
        assert_eq!(to(&ways, "10.2.0.1"), [2]);
        assert_eq!(to(&ways, "10.1.0.1"), [3, 4, 5], "and those of other tables");
        assert_eq!(to(&ways, "10.0.0.0/8"), [2, 3, 4, 5]);
        assert_eq!(to(&ways, "0.0.0.0/0"), [1, 2, 3, 4, 5]);
        assert_eq!(to(&ways, "2001:db8::1"), [7]);
        assert_eq!(to(&ways, "::/0"), [6, 7]);
        assert!(to(&[], "10.0.0.1").is_empty());
    }

    #[test]
    fn routes_with_several_next_hops_name_each() {
        let mut bytes = Vec::new();
        for (length, link) in [(16_u16, 3_u32), (8, 4)] {
            bytes.extend(length.to_ne_bytes());
            bytes.extend([0, 0]);
            bytes.extend(link.to_ne_bytes());
            bytes.resize(bytes.len() + usize::from(length) - 8, 0);
        }
        assert_eq!(next_hops(&bytes), [3, 4]);
        assert!(next_hops(&[0; 3]).is_empty());
    }
}
