//! Which addresses a probe may be sent to. The rule is asked after a name was resolved, so that a name cannot be rebound around it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// What must not be probed from here.
#[derive(Debug, Clone, Default)]
pub struct AddressRule {
    refuse_special: bool,
    refused: Vec<SocketAddr>,
}

/// Where clouds answer with credentials.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

impl AddressRule {
    /// For probes that hosts run: the host itself is theirs to probe.
    pub fn anything() -> Self {
        Self::default()
    }

    /// For probes that the controller runs: never link-local, metadata services, or the controller itself.
    pub fn for_controller(own: Vec<SocketAddr>) -> Self {
        Self {
            refuse_special: true,
            refused: own,
        }
    }

    /// The reason, or `None` when the address may be probed. Where the controller listens on every address of its machine, it is
    /// tried now whether this is one: interfaces come and go.
    pub fn refusal(&self, address: SocketAddr) -> Option<String> {
        self.refusal_where(address, is_of_this_machine)
    }

    fn refusal_where(&self, address: SocketAddr, local: impl FnOnce(IpAddr) -> io::Result<bool>) -> Option<String> {
        let ip = address.ip().to_canonical();
        if self.refuse_special && is_special(ip) {
            return Some(format!(
                "{ip} is link-local or a metadata service; the controller does not probe it"
            ));
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

/// An address that this machine has can be bound to; nothing is sent.
fn is_of_this_machine(ip: IpAddr) -> io::Result<bool> {
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4 == Ipv4Addr::UNSPECIFIED || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0) == 0xfe80 || v6 == METADATA_V6 || v6.is_unspecified() || v6.is_multicast(),
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
