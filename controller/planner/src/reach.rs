//! By which addresses a host is reached: the one its session shows, and those it reports that can lead to it alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use proto_model::host::{Connection, Host};
use proto_model::id::HostName;
use proto_model::peer::Network;

/// Networks that container runtimes and hypervisors give to their bridges unless told otherwise: Docker, Podman, libvirt, and the usual
/// pod network. Every host has the same, and the bridge itself has the first address of its network.
const BRIDGE_NETWORKS: [&str; 4] = ["172.17.0.0/16", "10.88.0.0/16", "192.168.122.0/24", "10.244.0.0/16"];

/// Connected hosts by each address that they report or that their sessions show. A host that is lost claims nothing.
#[derive(Debug, Default)]
pub(crate) struct Holders<'a>(BTreeMap<IpAddr, Vec<&'a Host>>);

impl<'a> Holders<'a> {
    pub fn new(hosts: impl Iterator<Item = &'a Host>) -> Self {
        let mut holders: BTreeMap<IpAddr, Vec<&Host>> = BTreeMap::new();
        for host in hosts.filter(|host| host.connection == Connection::Connected) {
            for address in known(host) {
                holders.entry(address).or_default().push(host);
            }
        }
        Self(holders)
    }

    fn others(&self, host: &Host, address: IpAddr) -> impl Iterator<Item = &'a Host> {
        let name = host.name.clone();
        let all = self.0.get(&address).into_iter().flatten().copied();
        all.filter(move |other| other.name != name)
    }
}

/// The addresses of one peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub used: BTreeSet<IpAddr>,
    session: Option<IpAddr>,
    left_out: Vec<String>,
    is_lost: bool,
}

/// Why a host cannot be a peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    NoAddress,
    /// Every address is left out, each with its reason.
    NothingLeft(String),
    /// A fault toward this address would hit the other host as well.
    Clash(IpAddr, HostName),
}

enum Use {
    Yes,
    /// Named by the person who wrote it.
    Excepted,
    No(String),
    Clash(HostName),
}

impl Reach {
    pub fn of(host: &Host, except: &[Network], holders: &Holders<'_>) -> Result<Self, Unreachable> {
        let session = session(host);
        let all = known(host);
        if all.is_empty() {
            return Err(Unreachable::NoAddress);
        }
        let (mut used, mut left_out, mut excepted) = (BTreeSet::new(), Vec::new(), false);
        for address in all {
            match usable(host, session, address, except, holders) {
                Use::Yes => drop(used.insert(address)),
                Use::Excepted => excepted = true,
                Use::No(why) => left_out.push(format!("{address} ({why})")),
                Use::Clash(other) => return Err(Unreachable::Clash(address, other)),
            }
        }
        if used.is_empty() && !excepted {
            return Err(Unreachable::NothingLeft(left_out.join(", ")));
        }
        Ok(Self {
            used,
            session,
            left_out,
            is_lost: host.connection == Connection::Lost,
        })
    }

    /// What a person should know of it: which addresses, and by whose word.
    pub fn in_words(&self) -> String {
        let listed = |addresses: &mut dyn Iterator<Item = &IpAddr>| addresses.map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
        let mut words = listed(&mut self.used.iter());
        if words.is_empty() {
            words.push_str("no address");
        }
        if let Some(session) = self.session {
            words.push_str(&format!(", session from {session}"));
            let alone = listed(&mut self.used.iter().filter(|address| **address != session));
            if !alone.is_empty() {
                words.push_str(&format!(", by its own report alone {alone}"));
            }
        }
        if self.is_lost {
            words.push_str(", not connected: as it last reported");
        }
        if !self.left_out.is_empty() {
            words.push_str(&format!(", left out {}", self.left_out.join(", ")));
        }
        words
    }
}

/// Which address the host's session comes from, where that can be one of its own.
fn session(host: &Host) -> Option<IpAddr> {
    let text = host.source_address.as_deref()?;
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address
        .ok()
        .map(|address| address.to_canonical())
        .filter(|address| special(*address).is_none())
}

fn known(host: &Host) -> BTreeSet<IpAddr> {
    let reported = host.facts.addresses.iter().map(IpAddr::to_canonical);
    reported.chain(session(host)).collect()
}

fn usable(host: &Host, session: Option<IpAddr>, address: IpAddr, except: &[Network], holders: &Holders<'_>) -> Use {
    if except.iter().any(|network| network.contains(address)) {
        return Use::Excepted;
    }
    if let Some(why) = special(address) {
        return Use::No(why.to_owned());
    }
    let own = session == Some(address);
    if !own && is_bridge(address) {
        return Use::No("the usual address of a bridge for containers or virtual machines".to_owned());
    }
    let mut others = holders.others(host, address);
    let by_session = |other: &Host| self::session(other) == Some(address);
    match (own, session.is_some()) {
        // By the session of two hosts: they are behind one address.
        (true, _) => match others.find(|other| by_session(other)) {
            Some(other) if known(host).len() > 1 => Use::No(format!("the session of {} comes from it as well", other.name)),
            Some(other) => Use::Clash(other.name.clone()),
            None => Use::Yes,
        },
        // Another host has it, and this one is reached by another address.
        (false, true) => match others.next() {
            Some(other) => Use::No(format!("{} has it as well", other.name)),
            None => Use::Yes,
        },
        // Nothing but reports: either could be meant.
        (false, false) => match others.next() {
            Some(other) if by_session(other) => Use::No(format!("the session of {} comes from it", other.name)),
            Some(other) => Use::Clash(other.name.clone()),
            None => Use::Yes,
        },
    }
}

/// Addresses that never lead from one host to another.
fn special(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    match address {
        _ if address.is_loopback() => Some("loopback"),
        _ if address.is_unspecified() => Some("unspecified"),
        _ if address.is_multicast() => Some("multicast"),
        _ if link_local => Some("link-local"),
        _ => None,
    }
}

fn is_bridge(address: IpAddr) -> bool {
    let IpAddr::V4(v4) = address else { return false };
    let within = BRIDGE_NETWORKS.iter().filter_map(|text| Network::parse(text));
    v4.octets()[3] == 1 && within.into_iter().any(|network| network.contains(address))
}
