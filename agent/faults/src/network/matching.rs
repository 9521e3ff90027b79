//! Which packets a fault of this family means: the parameters that all its kinds share, checked and put in words; it acts on nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use agent_levers::{Direction, Fate, Levers, PacketFate, Protocol, TrafficSpec};
use agent_view::{Feature, HostView, ViewError};
use proto_model::peer::{Network, Peer};
use proto_model::problem::{Problem, Problems, Refusal};
use proto_model::quantity::PortRange;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cgroup_scope::{self, CgroupScope, CgroupSelector};
use super::multicast::Sent;
use super::resolved::{FORWARDS, Known, Resolved};
use super::{forwarding, peers};
use crate::claim::{Claim, Narrowing, TrafficClaim};
use crate::fault::{Answers, FaultError, Scene};

/// Never meant by anybody.
const LOOPBACK: &str = "lo";

/// What rules for packets stand on.
pub(super) const NEEDS: &[Feature] = &[Feature::NetAdmin, Feature::PacketRules];

/// Peers that one injection may name.
const MAX_PEERS: usize = 1_000;
/// Names of peers that a line may hold.
const NAMED: usize = 8;

/// Flattened into each kind's parameters, beside its direction, whose default differs. Strangers among the keys are
/// refused by the schema of the whole, since serde cannot tell them from those of the part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Matching {
    /// The other side: 1 to 1000 of selectors of hosts (`role=cache`), networks (`10.0.0.0/8`, `2001:db8::1`), DNS names, `host:NAME` or `any`
    /// (at most 5 minutes). What this host sends to multicast groups and broadcast addresses reaches the peers all the same, unless the
    /// groups are named here as well. Required.
    #[schemars(length(min = 1, max = 1000))]
    pub to: Vec<Peer>,
    /// Only these TCP and UDP ports of the other side, 1 to 65535, single or as ranges such as `8000-8100`. Default all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRange>,
    /// Only these TCP and UDP ports of this host, 1 to 65535, single or as ranges such as `8000-8100`. Default all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_ports: Vec<PortRange>,
    /// Only this protocol: `tcp`, `udp` or `icmp` (of both IP versions). Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Only packets that leave or arrive by this interface, such as `eth0`. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Only packets of this systemd unit, such as `nginx.service` (`.service` may be left out): of sockets that its processes made, also after
    /// it was started anew. Default everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Only packets of this control group (cgroup v2) and those below it, a path such as `/system.slice/nginx.service`. Default everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Peers that are left alone although `to` covers them, written the same way. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Peer>,
}

impl Matching {
    /// For examples: everything of these peers.
    pub fn of(to: &[&str]) -> Self {
        Self {
            to: to.iter().filter_map(|text| Peer::parse(text).ok()).collect(),
            ..Self::default()
        }
    }

    pub fn validate(&self) -> Problems {
        let mut problems = Problems::default();
        for (path, peers, least) in [("params.to", &self.to, 1), ("params.except", &self.except, 0)] {
            if !(least..=MAX_PEERS).contains(&peers.len()) {
                let message = format!("names {} peers", peers.len());
                problems.push(Problem::new(path, message).allowed(format!("{least}..{MAX_PEERS} peers")));
            }
        }
        if self.except.contains(&Peer::Any) {
            problems.push(Problem::new("params.except", "excepts every peer, so nothing is left"));
        }
        for (path, ports) in [("params.ports", &self.ports), ("params.local_ports", &self.local_ports)] {
            if self.protocol == Some(Protocol::Icmp) && !ports.is_empty() {
                problems.push(Problem::new(path, "icmp has no ports").allowed("protocol tcp or udp"));
            }
        }
        cgroup_scope::validate(self.unit.as_deref(), self.group.as_deref(), &mut problems);
        if self.interface.as_ref().is_some_and(|name| !is_interface_name(name)) {
            let problem = Problem::new("params.interface", "is not the name of an interface");
            problems.push(problem.allowed("1 to 15 characters without spaces and slashes"));
        }
        problems
    }

    /// By what is written; a name claims only itself.
    pub fn claims(&self, direction: Direction) -> Vec<Claim> {
        self.claims_on(&self.to, direction, None)
    }

    /// The same with the addresses of names besides, so that a name and its address are seen to be one host, and with the path of
    /// the group that is meant.
    pub fn claims_here(&self, direction: Direction, view: &dyn HostView) -> Vec<Claim> {
        let look_up = peers::patient_look_up(view);
        let names = self.to.iter().filter_map(|peer| match peer {
            Peer::Name(name) => look_up(name).ok(),
            _ => None,
        });
        let addresses = names.flatten().map(|address| Peer::Network(Network::host(address.to_canonical())));
        let all: Vec<Peer> = self.to.iter().cloned().chain(addresses).collect();
        let group = self.selector().and_then(|selector| cgroup_scope::path_here(selector, view));
        self.claims_on(&all, direction, group)
    }

    fn claims_on(&self, peers: &[Peer], direction: Direction, group: Option<String>) -> Vec<Claim> {
        let narrowing = Narrowing {
            protocol: self.protocol,
            ports: self.ports.clone(),
            local_ports: self.local_ports.clone(),
            interface: self.interface.clone(),
            group,
        };
        let packets = TrafficClaim::of(peers, direction, &narrowing);
        packets.into_iter().map(Claim::from).collect()
    }

    /// Looks at the host, and answers with the peers' addresses and what a person would like to know, or refuses.
    pub fn preflight(&self, direction: Direction, scene: &Scene<'_>) -> Result<(Resolved, Vec<String>), Refusal> {
        let resolved = self.resolve(direction, scene.view)?;
        self.check_interface(scene, &resolved)?;
        peers::check_any(&resolved.peers, scene.duration_ms)?;
        let mut warnings = self.check_ports(scene)?;
        if let (Some(selector), Some(scope)) = (self.selector(), &resolved.scope) {
            warnings.extend(cgroup_scope::check(selector, scope, self.protocol, direction, scene)?);
        }
        warnings.extend(peers::check_elsewhere(&resolved.peers, scene)?);
        warnings.extend(peers::check_protected(&resolved.peers, &resolved.except, scene)?);
        if forwarding::forwards(scene.view) {
            warnings.push(FORWARDS.to_owned());
        }
        warnings.extend(resolved.to_groups.and_then(Sent::warning));
        Ok((resolved, warnings))
    }

    fn resolve(&self, direction: Direction, view: &dyn HostView) -> Result<Resolved, Refusal> {
        let mut names = BTreeMap::new();
        let ask = peers::patient_look_up(view);
        let mut look_up = |name: &str| {
            let addresses = sorted(ask(name)?);
            let known = Known {
                addresses: addresses.clone(),
                ..Known::default()
            };
            names.insert(name.to_owned(), known);
            Ok(addresses)
        };
        let peers = peers::resolve("params.to", &self.to, &mut look_up)?;
        let except = peers::resolve("params.except", &self.except, &mut look_up)?;
        let scope = self.selector().map(|selector| cgroup_scope::find(selector, view)).transpose()?;
        Ok(Resolved {
            to_groups: Sent::beside(&peers, self.protocol, direction, view),
            peers,
            except,
            scope,
            names,
            forwards: forwarding::forwards(view),
        })
    }

    /// [`Self::resolve`] of a fault that is about to act; mounts may have become unreadable since its preflight.
    pub fn resolve_to_apply(&self, direction: Direction, scene: &Scene<'_>) -> Result<Resolved, FaultError> {
        let resolved = peers::protected_networks(scene).and_then(|_| self.resolve(direction, scene.view));
        resolved.map_err(|refusal| FaultError::Other(refusal.to_string()))
    }

    fn selector(&self) -> Option<CgroupSelector<'_>> {
        CgroupSelector::of(self.unit.as_deref(), self.group.as_deref())
    }

    /// DNS names among the peers.
    pub fn names(&self) -> Vec<String> {
        let name = |peer: &Peer| match peer {
            Peer::Name(name) => Some(name.clone()),
            _ => None,
        };
        self.to.iter().chain(&self.except).filter_map(name).collect()
    }

    /// The same after names and groups were looked at again; what is without an answer keeps what it meant.
    fn resolve_again(&self, before: &Resolved, answers: &Answers) -> Resolved {
        let (mut names, mut scope) = (before.names.clone(), before.scope.clone());
        if let Some(scope) = &mut scope
            && let Some(seen) = answers.groups.get(scope.path())
        {
            scope.follow(seen);
        }
        for (name, known) in &mut names {
            match answers.names.get(name) {
                Some(Ok(addresses)) => {
                    let addresses = sorted(addresses.clone());
                    known.changes += u32::from(addresses != known.addresses);
                    (known.addresses, known.problem) = (addresses, None);
                }
                Some(Err(why)) => known.problem = Some(why.clone()),
                None => {}
            }
        }
        let mut known = |name: &str| names.get(name).map(|known| known.addresses.clone()).ok_or_else(String::new);
        let peers = peers::resolve("params.to", &self.to, &mut known);
        let except = peers::resolve("params.except", &self.except, &mut known);
        match (peers, except) {
            (Ok(peers), Ok(except)) => Resolved {
                peers,
                except,
                scope,
                names,
                forwards: before.forwards,
                to_groups: before.to_groups,
            },
            // Cannot be: it was resolved before, and no name has gone.
            _ => before.clone(),
        }
    }

    /// What the levers are given.
    pub fn spec(&self, resolved: &Resolved, direction: Direction, fate: Fate, gate_ms: u64) -> TrafficSpec {
        TrafficSpec {
            peers: resolved.peers.clone(),
            except: resolved.except.clone(),
            ports: self.ports.clone(),
            local_ports: self.local_ports.clone(),
            protocol: self.protocol,
            interface: self.interface.clone(),
            groups: resolved.scope.as_ref().map(CgroupScope::groups),
            prober: None,
            direction,
            fate,
            gate_ms,
        }
    }

    /// The same after a new look, with what the levers are given when the peers or the groups are others now.
    fn retarget(&self, before: &Resolved, answers: &Answers, direction: Direction) -> (Resolved, Option<TrafficSpec>) {
        let now = self.resolve_again(before, answers);
        let groups = |resolved: &Resolved| resolved.scope.as_ref().map(CgroupScope::groups);
        let changed = (&now.peers, &now.except, groups(&now)) != (&before.peers, &before.except, groups(before));
        // Of these only the peers and the groups are looked at.
        let unused = Fate::Cut(PacketFate::Drop);
        let spec = changed.then(|| self.spec(&now, direction, unused, 0));
        (now, spec)
    }

    /// Takes the levers along to what the names and groups mean now.
    pub fn follow(
        &self,
        before: &Resolved,
        answers: &Answers,
        direction: Direction,
        levers: &mut Levers<'_>,
    ) -> Result<Resolved, FaultError> {
        let (now, spec) = self.retarget(before, answers, direction);
        spec.map(|spec| levers.retarget_packets(&spec)).transpose()?;
        Ok(now)
    }

    /// Whether no TCP segment is meant.
    pub fn is_without_tcp(&self) -> bool {
        matches!(self.protocol, Some(Protocol::Udp | Protocol::Icmp))
    }

    pub fn in_words(&self, direction: Direction, resolved: &Resolved) -> String {
        let way = match direction {
            Direction::Out => "to",
            Direction::In => "from",
            Direction::Both => "to and from",
        };
        let list = |ranges: &[PortRange]| ranges.iter().map(PortRange::to_string).collect::<Vec<_>>().join(", ");
        let mut words = vec![format!("packets {way} {}", named(&resolved.peers))];
        if !self.except.is_empty() {
            let except: Vec<String> = self.except.iter().take(NAMED).map(Peer::to_string).collect();
            words.push(format!("except {}", except.join(", ")));
        }
        match self.protocol {
            Some(Protocol::Tcp) => words.push("tcp only".to_owned()),
            Some(Protocol::Udp) => words.push("udp only".to_owned()),
            Some(Protocol::Icmp) => words.push("icmp only".to_owned()),
            None => {}
        }
        if !self.ports.is_empty() {
            words.push(format!("remote ports {}", list(&self.ports)));
        }
        if !self.local_ports.is_empty() {
            words.push(format!("local ports {}", list(&self.local_ports)));
        }
        words.extend(self.interface.iter().map(|name| format!("by {name}")));
        words.extend(resolved.scope.as_ref().map(CgroupScope::in_words));
        words.join("; ")
    }

    /// Without a named interface the peers decide which one it is.
    fn check_ways(&self, scene: &Scene<'_>, resolved: &Resolved) -> Result<(), Refusal> {
        let unreadable = |error: ViewError| Refusal::new("unreadable", "params.to", format!("{error}: {}", error.source));
        let known = scene.view.interfaces().map_err(unreadable)?;
        let guarded = |name: &String| name != LOOPBACK && scene.protection.interface(name).is_some();
        if !known.iter().any(guarded) {
            return Ok(());
        }
        let ways = scene.view.path_interfaces(&resolved.peers, None).map_err(unreadable)?;
        let protected = ways
            .iter()
            .find_map(|way| Some((&way.name, scene.protection.interface(&way.name)?)));
        let Some((name, why)) = protected else { return Ok(()) };
        let refusal = Refusal::new(
            "protected",
            "params.to",
            format!("packets of the peers pass {name}, which is protected: {why}"),
        );
        Err(refusal.allowed("peers behind other interfaces, or one that is not protected as params.interface"))
    }

    fn check_interface(&self, scene: &Scene<'_>, resolved: &Resolved) -> Result<(), Refusal> {
        let Some(name) = &self.interface else {
            return self.check_ways(scene, resolved);
        };
        if let Some(why) = scene.protection.interface(name) {
            return Err(Refusal::new("protected", "params.interface", format!("{name} is protected: {why}")));
        }
        let known = scene
            .view
            .interfaces()
            .map_err(|error| Refusal::new("unreadable", "params.interface", format!("{error}: {}", error.source)))?;
        if known.contains(name) {
            return Ok(());
        }
        let refusal = Refusal::new("no_match", "params.interface", format!("this host has no interface {name}"));
        Err(refusal.allowed(known.join(", ")))
    }

    /// A protected port that is named alone is refused; within a range it is spared, and said so.
    fn check_ports(&self, scene: &Scene<'_>) -> Result<Vec<String>, Refusal> {
        let mut warnings = Vec::new();
        for (path, ranges) in [("params.ports", &self.ports), ("params.local_ports", &self.local_ports)] {
            for range in ranges {
                let mut protected = (range.first..=range.last).filter_map(|port| Some((port, scene.protection.port(port)?)));
                let Some((port, why)) = protected.next() else { continue };
                if range.first == range.last {
                    return Err(Refusal::new("protected", path, format!("port {port} is protected: {why}")));
                }
                let more = match protected.count() {
                    0 => String::new(),
                    others => format!(", and {others} more of {range}"),
                };
                warnings.push(format!("port {port} is spared: {why}{more}"));
            }
        }
        Ok(warnings)
    }
}

fn sorted(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = addresses.into_iter().map(|address| address.to_canonical()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len()) && !name.contains(|c: char| c.is_whitespace() || c == '/')
}

fn named(networks: &[Network]) -> String {
    let first: Vec<String> = networks.iter().take(NAMED).map(Network::to_string).collect();
    match networks.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(addresses: &[&str]) -> Result<Vec<IpAddr>, String> {
        Ok(addresses.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn before() -> (Matching, Resolved) {
        let known = Known {
            addresses: answer(&["192.0.2.50"]).unwrap(),
            ..Known::default()
        };
        let resolved = Resolved {
            peers: ["192.0.2.1", "192.0.2.50"].map(|text| Network::parse(text).unwrap()).into(),
            except: Vec::new(),
            scope: None,
            names: BTreeMap::from([("db.example".to_owned(), known)]),
            forwards: false,
            to_groups: None,
        };
        (Matching::of(&["192.0.2.1", "db.example"]), resolved)
    }

    fn retargeted(answer: Result<Vec<IpAddr>, String>) -> (Resolved, Option<TrafficSpec>) {
        let (matching, resolved) = before();
        let answers = Answers {
            names: BTreeMap::from([("db.example".to_owned(), answer)]),
            ..Answers::default()
        };
        matching.retarget(&resolved, &answers, Direction::Out)
    }

    #[test]
    fn a_name_that_moves_takes_the_fault_along_and_others_stay() {
        let (moved, spec) = retargeted(answer(&["192.0.2.60", "2001:db8::60"]));
        let peers = spec.expect("others are meant").peers;
        let expected = ["192.0.2.1", "192.0.2.60", "2001:db8::60"].map(|text| Network::parse(text).unwrap());
        assert_eq!((&peers, &moved.peers), (&expected.to_vec(), &expected.to_vec()));
        assert!(moved.gaps().unwrap().contains("db.example moved 1 times"));
    }

    #[test]
    fn a_failed_look_keeps_the_old_addresses_and_says_so() {
        let (kept, spec) = retargeted(Err("db.example does not resolve on this host: timed out".to_owned()));
        assert_eq!((spec, &kept.peers), (None, &before().1.peers));
        let gaps = kept.gaps().unwrap();
        assert!(gaps.contains("timed out") && gaps.contains("are kept"), "{gaps}");
        let (same, spec) = retargeted(answer(&["192.0.2.50"]));
        assert_eq!((spec, same.gaps()), (None, None));
    }
}
