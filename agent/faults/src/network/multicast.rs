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

/// How many of them the kernel has counted, over the whole host; `None` is unknown, which is never taken for zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    v4: Option<u64>,
    v6: Option<SentV6>,
}

/// Kept apart: since boot there may be more of control than of the others, and only what was sent in between is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SentV6 {
    multicast: u64,
    /// Neighbour and listener discovery, of which some goes to one neighbour.
    control: u64,
}

impl Sent {
    /// `None` when the fault covers them, or has nothing to do with them: only what comes in, only tcp, groups among the peers.
    pub fn beside(peers: &[Network], protocol: Option<Protocol>, direction: Direction, view: &dyn HostView) -> Option<Self> {
        let concerns = direction.covers_out() && protocol != Some(Protocol::Tcp) && !peers.iter().any(meets_groups);
        concerns.then(|| Self::since_boot(view))
    }

    fn since_boot(view: &dyn HostView) -> Self {
        let v4 = view.knob(IPV4).ok().flatten().and_then(|netstat| sent_v4(&netstat));
        let v6 = match view.knob(IPV6) {
            Ok(Some(snmp6)) => sent_v6(&snmp6),
            // A kernel without IPv6 has the other file alone.
            Ok(None) => v4.map(|_| SentV6::default()),
            Err(_) => None,
        };
        Self { v4, v6 }
    }

    /// Unknown as well where a counter began anew.
    fn since(self, before: Self) -> Self {
        Self {
            v4: self.v4.zip(before.v4).and_then(|(now, before)| now.checked_sub(before)),
            v6: self.v6.zip(before.v6).and_then(|(now, before)| now.since(before)),
        }
    }

    /// The least number that was sent.
    fn least(self) -> u64 {
        let v6 = self.v6.map_or(0, |v6| v6.multicast.saturating_sub(v6.control));
        self.v4.unwrap_or(0).saturating_add(v6)
    }

    /// The files that gave no count, when there are any.
    fn unknown(self) -> Option<String> {
        let files = [(IPV4, self.v4.is_none()), (IPV6, self.v6.is_none())];
        let unknown: Vec<&str> = files.iter().filter(|(_, unknown)| *unknown).map(|(file, _)| *file).collect();
        (!unknown.is_empty()).then(|| format!("no count from {}", unknown.join(" and ")))
    }

    /// Said before a fault, on a host that sends such packets, or may do so.
    pub fn warning(self) -> Option<String> {
        match self.unknown() {
            _ if self.least() > 0 => Some(format!("{NOT_COVERED}: {FIX}")),
            Some(unknown) => Some(format!("{NOT_COVERED}; whether it sends any is unknown ({unknown}): {FIX}")),
            None => None,
        }
    }

    /// Said with what was observed, when there were such packets since, or may have been.
    pub fn gap(self, view: &dyn HostView) -> Option<String> {
        let sent = Self::since_boot(view).since(self);
        let count = match (sent.least(), sent.unknown()) {
            (0, None) => return None,
            (0, Some(unknown)) => format!("an unknown number since the fault began ({unknown})"),
            (least, None) => format!("at least {least} since the fault began ({IPV4}, {IPV6})"),
            (least, Some(unknown)) => format!("at least {least} since the fault began ({unknown})"),
        };
        Some(format!("not covered: {NOT_COVERED}, {count}"))
    }
}

impl SentV6 {
    fn since(self, before: Self) -> Option<Self> {
        Some(Self {
            multicast: self.multicast.checked_sub(before.multicast)?,
            control: self.control.checked_sub(before.control)?,
        })
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
fn sent_v4(netstat: &str) -> Option<u64> {
    let mut table = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, numbers) = (table.next()?, table.next()?);
    let count = |wanted: &str| {
        let mut counted = names.split_whitespace().zip(numbers.split_whitespace());
        let (_, number) = counted.find(|(name, _)| *name == wanted)?;
        number.parse::<u64>().ok()
    };
    Some(count("OutMcastPkts")?.saturating_add(count("OutBcastPkts")?))
}

fn sent_v6(snmp6: &str) -> Option<SentV6> {
    let count = |wanted: &str| {
        let mut lines = snmp6.lines().filter_map(|line| line.split_once(char::is_whitespace));
        let (_, number) = lines.find(|(name, _)| *name == wanted)?;
        number.trim().parse::<u64>().ok()
    };
    let mut control = 0_u64;
    for name in IPV6_CONTROL {
        control = control.saturating_add(count(name)?);
    }
    Some(SentV6 {
        multicast: count("Ip6OutMcastPkts")?,
        control,
    })
}

#[cfg(test)]
mod tests {
    use agent_levers::fake::FakeHost;

    use super::*;

    fn netstat(groups: u64, broadcast: u64) -> String {
        format!(
            "TcpExt: SyncookiesSent Other\nTcpExt: 1 2\n\
             IpExt: InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets\n\
             IpExt: 5 {groups} 9 {broadcast} 100\n"
        )
    }

    fn snmp6(multicast: u64, solicits: u64) -> String {
        let control = IPV6_CONTROL.iter().map(|name| {
            let count = if *name == "Icmp6OutNeighborSolicits" { solicits } else { 0 };
            format!("{name:<32}\t{count}\n")
        });
        let control: String = control.collect();
        format!("Ip6OutMcastPkts                 \t{multicast}\n{control}Icmp6OutMsgs \t99\n")
    }

    fn host(netstat: &str, snmp6: &str) -> FakeHost {
        let host = FakeHost::new();
        host.set_knob(IPV4, netstat);
        host.set_knob(IPV6, snmp6);
        host
    }

    #[test]
    fn the_kernels_own_counts_are_read_and_others_are_unknown() {
        assert_eq!(sent_v4(&netstat(7, 4)), Some(11));
        let expected = SentV6 { multicast: 20, control: 6 };
        assert_eq!(sent_v6(&snmp6(20, 6)), Some(expected));
        for unusual in [
            "",
            "IpExt: OutMcastPkts\n",
            "IpExt: OutMcastPkts OutBcastPkts\nIpExt: 1\n",
            "Ip6OutMcastPkts 1\n",
            "nonsense\n",
        ] {
            assert_eq!((sent_v4(unusual), sent_v6(unusual)), (None, None), "{unusual}");
        }
        // This kernel has the tables, and the counters by these names.
        let here = |path| std::fs::read_to_string(path).unwrap();
        assert!(sent_v4(&here(IPV4)).is_some() && sent_v6(&here(IPV6)).is_some());
    }

    #[test]
    fn counts_are_of_the_time_of_the_fault() {
        // More neighbours were asked one by one than packets were sent to groups: what is sent now counts all the same.
        let host = host(&netstat(100, 50), &snmp6(20, 60));
        let before = Sent::since_boot(&host);
        assert!(before.warning().is_some_and(|warning| warning.contains(FIX)), "{before:?}");
        assert_eq!(before.gap(&host), None);
        host.set_knob(IPV6, &snmp6(25, 62));
        let gap = before.gap(&host).unwrap();
        assert!(gap.contains(NOT_COVERED) && gap.contains("at least 3 since"), "{gap}");
        host.set_knob(IPV4, &netstat(101, 51));
        let gap = before.gap(&host).unwrap();
        assert!(gap.contains("at least 5 since"), "{gap}");
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_never_zero() {
        let quiet = (netstat(0, 0), snmp6(3, 3));
        let silent = Sent::since_boot(&host(&quiet.0, &quiet.1));
        assert_eq!((silent.warning(), silent.gap(&host(&quiet.0, &quiet.1))), (None, None));
        let hidden = FakeHost::new();
        hidden.remove_knob(IPV4);
        hidden.remove_knob(IPV6);
        let unread = Sent::since_boot(&hidden);
        assert_eq!(unread, Sent::default());
        for said in [unread.warning(), unread.gap(&host(&quiet.0, &quiet.1)), silent.gap(&hidden)] {
            let said = said.expect("it is not known that there were none");
            assert!(said.contains(IPV4) && said.contains(IPV6) && said.contains("unknown"), "{said}");
        }
        // One of the two says enough; what it does not say is named.
        let half = before_and_after(("nonsense", &quiet.1), ("nonsense", &snmp6(7, 3))).unwrap();
        assert!(
            half.contains("at least 4 since") && half.contains(IPV4) && !half.contains(IPV6),
            "{half}"
        );
        // A counter that runs backwards is of another time.
        let anew = before_and_after((&netstat(9, 0), &quiet.1), (&netstat(2, 0), &quiet.1)).unwrap();
        assert!(anew.contains("an unknown number") && anew.contains(IPV4), "{anew}");
        // A kernel without IPv6 sends none by it.
        let without = host(&quiet.0, "");
        without.remove_knob(IPV6);
        let none = Sent::since_boot(&without);
        assert_eq!((none.warning(), none.gap(&without)), (None, None));
    }

    fn before_and_after(before: (&str, &str), after: (&str, &str)) -> Option<String> {
        Sent::since_boot(&host(before.0, before.1)).gap(&host(after.0, after.1))
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
