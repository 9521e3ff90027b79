//! Which addresses a probe may be sent to. The rule is asked after a name was resolved, so that a name cannot be rebound around it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

    /// The reason, or `None` when the address may be probed.
    pub fn refusal(&self, address: SocketAddr) -> Option<String> {
        let ip = address.ip().to_canonical();
        if self.refuse_special && is_special(ip) {
            return Some(format!(
                "{ip} is link-local or a metadata service; the controller does not probe it"
            ));
        }
        let own = self.refused.iter().any(|own| {
            own.port() == address.port() && (own.ip().to_canonical() == ip || (own.ip().is_unspecified() && is_of_this_host(ip)))
        });
        own.then(|| format!("{address} is the controller itself"))
    }
}

/// An address that this host has can be bound to; nothing is sent.
fn is_of_this_host(ip: IpAddr) -> bool {
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
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
    fn an_address_of_this_host_is_known() {
        assert!(is_of_this_host("127.0.0.1".parse().unwrap()) && is_of_this_host("::1".parse().unwrap()));
        assert!(!is_of_this_host("192.0.2.1".parse().unwrap()));
    }

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
}
