//! Which addresses a probe may be sent to. The rule is asked after a name was resolved, so that a name cannot be rebound around it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use proto_model::peer::Network;

/// What must not be probed from here.
#[derive(Debug, Clone, Default)]
pub struct AddressRule {
    special: Special,
    /// Networks of a host's own rules; every ordinary address when none is allowed by name.
    allowed: Vec<Network>,
    denied: Vec<Network>,
    refused: Vec<SocketAddr>,
}

/// What becomes of link-local addresses and metadata services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Special {
    #[default]
    Open,
    Refused,
    /// Refused unless an allowed network is among them itself: a wide one does not open them.
    ByName,
}

/// Where clouds answer machines with credentials, besides link-local addresses: AWS, AWS's pod identity, Google, Oracle, Azure, Alibaba.
const METADATA: [IpAddr; 6] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0023)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

impl AddressRule {
    /// Every address, for tests of what asks.
    pub fn anything() -> Self {
        Self::default()
    }

    /// For probes that the controller runs: never link-local, metadata services, or the controller itself.
    pub fn for_controller(own: Vec<SocketAddr>) -> Self {
        Self {
            special: Special::Refused,
            refused: own,
            ..Self::default()
        }
    }

    /// For probes that a host runs, by its own rules. Link-local addresses and metadata services are refused unless allowed by name.
    pub fn for_host(allowed: Vec<Network>, denied: Vec<Network>) -> Self {
        Self {
            special: Special::ByName,
            allowed,
            denied,
            refused: Vec::new(),
        }
    }

    /// The reason, or `None` when the address may be probed. Where the controller listens on every address of its machine, it is
    /// tried now whether this is one: interfaces come and go.
    pub fn refusal(&self, address: SocketAddr) -> Option<String> {
        self.refusal_where(address, is_of_this_machine)
    }

    fn refusal_where(&self, address: SocketAddr, local: impl FnOnce(IpAddr) -> io::Result<bool>) -> Option<String> {
        let ip = address.ip().to_canonical();
        if let Some(why) = self.refusal_by_network(ip) {
            return Some(why);
        }
        let mut doors = self.refused.iter().filter(|own| own.port() == address.port());
        let itself = || Some(format!("{address} is the controller itself"));
        if doors.clone().any(|own| own.ip().to_canonical() == ip) {
            return itself();
        }
        // A door that is open everywhere, on a port that is asked for.
        doors.find(|own| own.ip().is_unspecified())?;
        if ip.is_loopback() {
            return itself();
        }
        match local(ip) {
            Ok(true) => itself(),
            Ok(false) => None,
            Err(error) => Some(format!(
                "whether {address} is the controller itself cannot be told: bind to {ip}: {error}"
            )),
        }
    }
}

impl AddressRule {
    fn refusal_by_network(&self, ip: IpAddr) -> Option<String> {
        let embedded = embedded(ip);
        let is = |network: &&Network| network.contains(ip) || embedded.is_some_and(|v4| network.contains(v4.into()));
        if let Some(network) = self.denied.iter().find(is) {
            return Some(format!(
                "this host's probes do not ask {ip}: probes.deny in agent.toml has {network}"
            ));
        }
        let special = is_special(ip) || embedded.is_some_and(|v4| is_special(v4.into()));
        let mut allowing = self.allowed.iter().filter(is);
        match self.special {
            Special::Refused if special => Some(format!(
                "{ip} is link-local or a metadata service; the controller does not probe it"
            )),
            Special::ByName if special && !allowing.any(names_special) => Some(format!(
                "{ip} is link-local or a metadata service, which this host's probes do not ask: name it in probes.allow of agent.toml"
            )),
            Special::ByName if !special && !self.allowed.is_empty() && allowing.next().is_none() => Some(format!(
                "this host's probes do not ask {ip}: probes.allow in agent.toml does not have it"
            )),
            _ => None,
        }
    }
}

/// The whole network is special.
fn names_special(network: &Network) -> bool {
    !network.address.is_unspecified() && is_special(network.address)
}

/// The address of version 4 that a translator (NAT64) or an old tunnel would make of one of version 6.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = ip else { return None };
    let last = || {
        let [.., a, b, c, d] = v6.octets();
        Ipv4Addr::new(a, b, c, d)
    };
    match v6.segments() {
        [0x0064, 0xff9b, 0, 0, 0, 0, ..] => Some(last()),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => Some(last()),
        [0x2002, ..] => {
            let [_, _, a, b, c, d, ..] = v6.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

/// An address that this machine has can be bound to; nothing is sent.
fn is_of_this_machine(ip: IpAddr) -> io::Result<bool> {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_special(ip: IpAddr) -> bool {
    if METADATA.contains(&ip) {
        return true;
    }
    match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4 == Ipv4Addr::UNSPECIFIED || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0) == 0xfe80 || v6.is_unspecified() || v6.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_never_probes_what_could_answer_for_it() {
        let rule = AddressRule::for_controller(vec!["0.0.0.0:7443".parse().unwrap(), "10.0.0.1:7400".parse().unwrap()]);
        for refused in [
            "169.254.169.254:80",
            "[fe80::1]:80",
            "[fd00:ec2::254]:80",
            "[::ffff:169.254.169.254]:80",
            "127.0.0.1:7443",
            "10.0.0.1:7400",
        ] {
            assert!(rule.refusal(refused.parse().unwrap()).is_some(), "{refused}");
        }
        for fine in ["127.0.0.1:8080", "10.0.0.1:80", "[fd77::2]:80"] {
            assert_eq!(rule.refusal(fine.parse().unwrap()), None, "{fine}");
        }
        assert_eq!(AddressRule::anything().refusal("169.254.169.254:80".parse().unwrap()), None);
    }

    const SPECIAL: [&str; 11] = [
        "169.254.169.254:80",
        "169.254.170.2:80",
        "[fe80::a9fe:a9fe]:80",
        "[fd00:ec2::254]:80",
        "[fd20:ce::254]:80",
        "100.100.100.200:80",
        "168.63.129.16:80",
        "[::ffff:169.254.169.254]:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "[2002:a9fe:a9fe::1]:80",
        "0.0.0.0:80",
    ];

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_host_asks_metadata_services_only_where_its_own_rules_name_them() {
        let refuses = |rule: &AddressRule, address: &str| rule.refusal(address.parse().unwrap());
        let wide = networks(&["0.0.0.0/0", "::/0"]);
        for rule in [AddressRule::for_host(vec![], vec![]), AddressRule::for_host(wide, vec![])] {
            for address in SPECIAL {
                let why = refuses(&rule, address).unwrap_or_else(|| panic!("{address} may be asked"));
                assert!(why.contains("probes.allow"), "{why}");
            }
            for fine in ["127.0.0.1:8080", "[::1]:80", "10.0.0.1:80", "[fd77::2]:80", "[64:ff9b::a00:1]:80"] {
                assert_eq!(refuses(&rule, fine), None, "{fine}");
            }
        }
        let named = AddressRule::for_host(
            networks(&["169.254.169.254", "fd00:ec2::254", "10.0.0.0/8"]),
            networks(&["10.9.0.0/16"]),
        );
        for fine in [
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "[fd00:ec2::254]:80",
            "10.1.1.1:1",
        ] {
            assert_eq!(refuses(&named, fine), None, "{fine}");
        }
        for (refused, key) in [
            ("169.254.170.2:80", "probes.allow"),
            ("192.168.0.1:80", "probes.allow"),
            ("127.0.0.1:80", "probes.allow"),
            ("10.9.1.1:80", "probes.deny"),
        ] {
            assert!(refuses(&named, refused).is_some_and(|why| why.contains(key)), "{refused}");
        }
    }

    #[test]
    fn a_door_on_every_address_is_refused_at_each_of_them() {
        let ours: [IpAddr; 2] = ["192.168.7.2".parse().unwrap(), "fd77::7".parse().unwrap()];
        let local = |ip| Ok(ours.contains(&ip));
        for everywhere in ["0.0.0.0:7443", "[::]:7443"] {
            let rule = AddressRule::for_controller(vec![everywhere.parse().unwrap()]);
            for own in ["192.168.7.2:7443", "[::ffff:192.168.7.2]:7443", "[fd77::7]:7443", "[::1]:7443"] {
                let why = rule.refusal_where(own.parse().unwrap(), local);
                assert!(
                    why.is_some_and(|why| why.contains("the controller itself")),
                    "{own} behind {everywhere}"
                );
            }
            for other in ["192.168.7.2:8080", "192.168.7.3:7443", "[fd77::8]:7443"] {
                assert_eq!(
                    rule.refusal_where(other.parse().unwrap(), local),
                    None,
                    "{other} behind {everywhere}"
                );
            }
            let blind = rule.refusal_where("192.168.7.3:7443".parse().unwrap(), |_| Err(io::Error::other("no sockets left")));
            assert!(blind.is_some_and(|why| why.contains("cannot be told") && why.contains("no sockets left")));
        }
        let one = AddressRule::for_controller(vec!["10.0.0.1:7443".parse().unwrap()]);
        assert_eq!(one.refusal_where("192.168.7.2:7443".parse().unwrap(), local), None);
    }

    /// The kernel's own list, read by other means.
    #[test]
    fn this_machines_addresses_are_those_that_the_kernel_lists() {
        let routes = std::fs::read_to_string("/proc/net/fib_trie").unwrap();
        let lines: Vec<&str> = routes.lines().map(str::trim).collect();
        let local = lines.windows(2).filter(|pair| pair[1].contains("/32 host LOCAL"));
        let listed: Vec<IpAddr> = local.map(|pair| pair[0].trim_start_matches("|-- ").parse().unwrap()).collect();
        let rule = AddressRule::for_controller(vec!["0.0.0.0:7443".parse().unwrap()]);
        for address in &listed {
            assert!(
                rule.refusal(SocketAddr::new(*address, 7443)).is_some(),
                "{address} is ours and may be probed"
            );
        }
        assert!(!listed.is_empty(), "the kernel lists no address of this machine: {routes}");
        assert_eq!(rule.refusal("203.0.113.7:7443".parse().unwrap()), None);
    }
}
