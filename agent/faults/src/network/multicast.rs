//! What this host sends to groups and broadcast addresses: such packets name no peer, so a fault on peers does not cover them.

use std::net::IpAddr;

use agent_levers::{Direction, Protocol};
use agent_view::HostView;
use proto_model::peer::Network;
use serde::{Deserialize, Serialize};

const IPV4: &str = "/proc/net/netstat";
const IPV6: &str = "/proc/net/snmp6";
/// Neighbour and listener discovery and routers, which no fault touches: the kernel counts them among multicast packets, and by themselves.
const IPV6_CONTROL: [&str; 8] = [
    "Icmp6OutGroupMembQueries",
    "Icmp6OutGroupMembResponses",
    "Icmp6OutGroupMembReductions",
    "Icmp6OutRouterSolicits",
    "Icmp6OutRouterAdvertisements",
    "Icmp6OutNeighborSolicits",
    "Icmp6OutNeighborAdvertisements",
    "Icmp6OutMLDv2Reports",
];
const NOT_COVERED: &str = "packets that this host sends to multicast groups or broadcast addresses reach the peers all the same";
const FIX: &str = "name the groups in params.to as well, such as 239.1.2.3 or ff02::42";

/// How many of them the kernel has counted since boot, over the whole host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    v4: u64,
    /// Besides neighbour and listener discovery; at least so many, since some of those go to one neighbour.
    v6: u64,
}

impl Sent {
    /// `None` when the fault covers them, or has nothing to do with them: only what comes in, only tcp, groups among the peers.
    pub fn beside(peers: &[Network], protocol: Option<Protocol>, direction: Direction, view: &dyn HostView) -> Option<Self> {
        let concerns = direction.covers_out() && protocol != Some(Protocol::Tcp) && !peers.iter().any(meets_groups);
        concerns.then(|| Self::now(view))
    }

    /// What cannot be read counts as nothing.
    fn now(view: &dyn HostView) -> Self {
        let read = |path| view.knob(path).ok().flatten().unwrap_or_default();
        Self {
            v4: sent_v4(&read(IPV4)),
            v6: sent_v6(&read(IPV6)),
        }
    }

    fn total(self) -> u64 {
        self.v4.saturating_add(self.v6)
    }

    /// Said before a fault, on a host that sends such packets.
    pub fn warning(self) -> Option<String> {
        (self.total() > 0).then(|| format!("{NOT_COVERED}: {FIX}"))
    }

    /// Said with what was observed, when there were such packets since.
    pub fn gap(self, view: &dyn HostView) -> Option<String> {
        let now = Self::now(view);
        let since = now.v4.saturating_sub(self.v4) + now.v6.saturating_sub(self.v6);
        (since > 0).then(|| format!("not covered: {NOT_COVERED}, at least {since} since the fault began ({IPV4}, {IPV6})"))
    }
}

fn meets_groups(peer: &Network) -> bool {
    let within = match peer.address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    };
    // A wider network begins before the groups that it holds.
    within
        || Network::parse(if peer.address.is_ipv4() { "224.0.0.0" } else { "ff00::" }).is_some_and(|groups| peer.contains(groups.address))
}

/// A line of names and, below it, one of numbers, both beginning with the name of the table.
fn sent_v4(netstat: &str) -> u64 {
    let mut table = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (Some(names), Some(numbers)) = (table.next(), table.next()) else {
        return 0;
    };
    let counted = names.split_whitespace().zip(numbers.split_whitespace());
    counted
        .filter(|(name, _)| matches!(*name, "OutMcastPkts" | "OutBcastPkts"))
        .filter_map(|(_, number)| number.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

fn sent_v6(snmp6: &str) -> u64 {
    let count = |wanted: &str| {
        let mut lines = snmp6.lines().filter_map(|line| line.split_once(char::is_whitespace));
        let number = lines.find(|(name, _)| *name == wanted);
        number.and_then(|(_, number)| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let control = IPV6_CONTROL.into_iter().map(count).fold(0, u64::saturating_add);
    count("Ip6OutMcastPkts").saturating_sub(control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_counts_are_read() {
        let netstat = "TcpExt: SyncookiesSent Other\nTcpExt: 1 2\nIpExt: InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets\nIpExt: 5 7 9 4 100\n";
        assert_eq!(sent_v4(netstat), 11);
        let snmp6 = "Ip6OutMcastPkts                 \t20\nIcmp6OutNeighborSolicits        \t6\nIcmp6OutMLDv2Reports            \t4\nIcmp6OutMsgs \t99\n";
        assert_eq!(sent_v6(snmp6), 10);
        for unusual in ["", "IpExt: OutMcastPkts\n", "nonsense\n"] {
            assert_eq!((sent_v4(unusual), sent_v6(unusual)), (0, 0), "{unusual}");
        }
        // This kernel has the tables, and the counters by these names.
        let here = |path| std::fs::read_to_string(path).unwrap();
        assert!(here(IPV4).contains("OutMcastPkts") && here(IPV6).contains("Ip6OutMcastPkts"));
        for name in IPV6_CONTROL {
            assert!(
                here(IPV6).lines().any(|line| line.split_whitespace().next() == Some(name)),
                "{name}"
            );
        }
    }

    #[test]
    fn peers_that_are_groups_are_covered() {
        for (peer, is_group) in [
            ("192.0.2.10", false),
            ("10.0.0.0/8", false),
            ("2001:db8::/32", false),
            ("239.1.2.3", true),
            ("224.0.0.0/4", true),
            ("255.255.255.255", true),
            ("0.0.0.0/0", true),
            ("192.0.0.0/2", true),
            ("ff02::42", true),
            ("::/0", true),
        ] {
            assert_eq!(meets_groups(&Network::parse(peer).unwrap()), is_group, "{peer}");
        }
    }
}
