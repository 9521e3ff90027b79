//! Which chains, sets and rules make up one injection; how they are sent is not decided here.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use agent_view::net::listing::Listing;
use agent_view::net::names::{self, Base, SetRole, injection_of};
use proto_model::id::InjectionId;

use super::batch::Batch;
use super::entry::{Entry, PEERS};
use super::expressions::{End, ICMP, ICMPV6, Match, Rule, TCP, UDP};
use super::field::{Family, Field};
use super::interval::Spans;
use crate::traffic::{Exemptions, Fate, PacketFate, Protocol, SocketGroups, TrafficSpec};

/// Networks that one injection may name; more is a mistake.
const MAX_NETWORKS: usize = 10_000;
/// Groups that one injection may name, and how deep the kernel's rules look.
const MAX_GROUPS: usize = 64;
const LEVELS: RangeInclusive<u32> = 1..=255;
/// Bytes of an interface's name, without its end.
const MAX_INTERFACE: usize = 15;
const SSH: u16 = 22;
/// DHCP's client and server ports, version 4 and 6.
const DHCP: [(u16, u16); 2] = [(67, 68), (546, 547)];
/// Listener discovery (130..132), routers and neighbours (133..137), and version 2 listener reports.
const NEIGHBOUR_TYPES: [(u8, u8); 2] = [(130, 137), (143, 143)];
/// The sets of the controller's addresses.
const CONTROLLERS: [(Family, SetRole); 2] = [(Family::V4, SetRole::Controllers4), (Family::V6, SetRole::Controllers6)];
const ICMP_UNREACHABLE: u8 = 3;
const ICMPV6_UNREACHABLE: u8 = 1;

/// What the kernel would take and misunderstand, or refuse in words nobody understands.
pub(super) fn check(spec: &TrafficSpec) -> Result<(), String> {
    if spec.peers.is_empty() {
        return Err("it names no peer".into());
    }
    if spec.peers.len() + spec.except.len() > MAX_NETWORKS {
        return Err(format!(
            "it names {} networks (allowed: up to {MAX_NETWORKS})",
            spec.peers.len() + spec.except.len()
        ));
    }
    if let Some(SocketGroups { level, ids }) = &spec.groups
        && !(LEVELS.contains(level) && (1..=MAX_GROUPS).contains(&ids.len()))
    {
        return Err(format!(
            "it names {} groups at level {level} (allowed: 1 to {MAX_GROUPS} at level 1 to 255)",
            ids.len()
        ));
    }
    if spec.protocol == Some(Protocol::Icmp) && !(spec.ports.is_empty() && spec.local_ports.is_empty()) {
        return Err("icmp has no ports".into());
    }
    match &spec.interface {
        Some(name) if name.is_empty() || name.len() > MAX_INTERFACE => Err(format!("{name:?} is not the name of an interface")),
        _ => Ok(()),
    }
}

/// The table and base chains if absent, then everything of the injection.
///
/// Where connections are tracked, their addresses may be translated.
pub(super) fn add(batch: &mut Batch, injection: &InjectionId, spec: &TrafficSpec, exemptions: &Exemptions, tracked: bool) {
    batch.add_table();
    for base in Base::ALL {
        batch.add_base_chain(base);
    }
    let bases = bases_of(spec).into_iter();
    let entries: Vec<Entry> = bases.flat_map(|base| Entry::all_of(base, injection, spec, tracked)).collect();
    for entry in &entries {
        batch.add_chain(&entry.chain);
    }
    add_sets(batch, injection, spec, exemptions);
    for entry in &entries {
        let base = entry.base;
        for rule in rules(entry, injection, spec, exemptions) {
            batch.add_rule(&entry.chain, &rule, &comment(base, injection, &rule));
        }
        for door in entry.doors(injection) {
            let rule = Rule::new(door, End::Jump(entry.chain.clone()));
            batch.add_rule(base.name(), &rule, &comment(base, injection, &rule));
        }
    }
}

/// By deletion and addition in one transaction, which kernels of every age take; refused when the gate has closed.
pub(super) fn renew(batch: &mut Batch, injection: &InjectionId, gate_ms: u64) {
    let gate = SetRole::Gate.set_of(injection);
    batch.close_gate(&gate);
    batch.open_gate(&gate, gate_ms);
}

pub(super) fn replace(batch: &mut Batch, injection: &InjectionId, spec: &TrafficSpec) {
    for (role, spans) in peer_sets(spec) {
        batch.replace_spans(&role.set_of(injection), &spans);
    }
    if let Some(groups) = &spec.groups {
        batch.replace_groups(&SetRole::Groups.set_of(injection), &groups.ids);
    }
}

/// The controller is somewhere else from now on.
pub(super) fn replace_controllers(batch: &mut Batch, injection: &InjectionId, controllers: &[SocketAddr]) {
    for (family, role) in CONTROLLERS {
        batch.replace_endpoints(&role.set_of(injection), family, controllers);
    }
}

/// Everything in the listing that carries the id: first what refers to something, then what it referred to.
pub(super) fn remove(batch: &mut Batch, injection: &InjectionId, listing: &Listing) {
    let ours = |name: &String| injection_of(name).as_ref() == Some(injection);
    for rule in listing.rules.iter().filter(|rule| rule.injection().as_ref() == Some(injection)) {
        batch.remove_rule(&rule.chain, rule.handle);
    }
    for chain in listing.chains.iter().filter(|name| ours(name)) {
        batch.remove_chain(chain);
    }
    for set in listing.sets.iter().filter(|name| ours(name)) {
        batch.remove_set(set);
    }
}

fn bases_of(spec: &TrafficSpec) -> Vec<Base> {
    let covered = |base: &Base| {
        if base.is_out() {
            spec.direction.covers_out()
        } else {
            spec.direction.covers_in()
        }
    };
    Base::ALL.into_iter().filter(covered).collect()
}

fn comment(base: Base, injection: &InjectionId, rule: &Rule) -> String {
    let what = match &rule.end {
        End::GoOn if base.counts_what_passed() => "came through",
        End::GoOn => names::MET,
        End::Return => "spared",
        End::Jump(_) => "peer",
        End::Drop => "drop",
        End::Reject => "reject",
        End::Reset => "reset",
        End::Queue(_) => "queue",
        End::Sink(_) => "lose",
        End::Unmark => "sent again",
    };
    format!("fracas {injection} {what}")
}

fn peer_sets(spec: &TrafficSpec) -> [(SetRole, Spans); 4] {
    [
        (SetRole::Peers4, Spans::v4(&spec.peers)),
        (SetRole::Peers6, Spans::v6(&spec.peers)),
        (SetRole::Except4, Spans::v4(&spec.except)),
        (SetRole::Except6, Spans::v6(&spec.except)),
    ]
}

/// Sets that are there only when they hold something.
fn fixed_sets(spec: &TrafficSpec, exemptions: &Exemptions) -> impl Iterator<Item = (SetRole, Spans)> {
    [
        (SetRole::Spared4, Spans::v4(&exemptions.networks)),
        (SetRole::Spared6, Spans::v6(&exemptions.networks)),
        (SetRole::SparedPorts, Spans::ports(&exemptions.ports)),
        (SetRole::RemotePorts, Spans::ports(&spec.ports)),
        (SetRole::LocalPorts, Spans::ports(&spec.local_ports)),
    ]
    .into_iter()
    .filter(|(_, spans)| !spans.is_empty())
}

fn add_sets(batch: &mut Batch, injection: &InjectionId, spec: &TrafficSpec, exemptions: &Exemptions) {
    for (role, spans) in peer_sets(spec).into_iter().chain(fixed_sets(spec, exemptions)) {
        batch.add_interval_set(&role.set_of(injection), &spans);
    }
    for (family, role) in CONTROLLERS {
        batch.add_endpoint_set(&role.set_of(injection), family, &exemptions.controllers);
    }
    if let Some(groups) = &spec.groups {
        batch.add_group_set(&SetRole::Groups.set_of(injection), &groups.ids);
    }
    if let Some(prober) = &spec.prober {
        batch.add_group_set(&SetRole::Prober.set_of(injection), &[prober.id]);
    }
    batch.add_gate_set(&SetRole::Gate.set_of(injection), spec.gate_ms);
}

/// One chain of the injection's own: what is spared returns, then the fate; or, late in the hook, only the count.
fn rules(entry: &Entry, injection: &InjectionId, spec: &TrafficSpec, exemptions: &Exemptions) -> Vec<Rule> {
    let base = entry.base;
    let mut rules = sent_again(base, spec);
    rules.extend(of_another_chain(entry, injection, spec));
    rules.extend(always_spared(entry));
    rules.extend(spared_controllers(entry, injection));
    let fixed = fixed_sets(spec, exemptions).map(|(role, _)| role);
    for role in fixed.chain([SetRole::Except4, SetRole::Except6]) {
        rules.extend(spared_by_set(entry, injection, role));
    }
    rules.extend(own_answers(base, spec.fate));
    rules.extend(fates(entry, injection, spec));
    rules
}

/// Packets that are a peer's, on the ports that are meant, by the other of their addresses.
fn of_another_chain(entry: &Entry, injection: &InjectionId, spec: &TrafficSpec) -> Vec<Rule> {
    let Some(other) = entry.unless() else { return Vec::new() };
    let by_port = |protocol: Option<u8>| {
        let is_one = |port| Match::InSet(port, SetRole::RemotePorts.set_of(injection));
        let port = (!spec.ports.is_empty()).then(|| is_one(other.port(entry.base)));
        protocol.map(Match::Protocol).into_iter().chain(port)
    };
    let each = PEERS
        .into_iter()
        .flat_map(|peers| protocols(spec).into_iter().map(move |protocol| (peers, protocol)));
    each.map(|((family, role), protocol)| {
        let peer = Match::InSet(other.address(entry.base, family), role.set_of(injection));
        let matches = [Match::Family(family), peer].into_iter().chain(by_port(protocol));
        Rule::new(matches.collect(), End::Return)
    })
    .collect()
}

/// What a worker of ours has held already is let go, first of all.
///
/// Packets of one peer may belong to several injections where each means other groups: then the sign that they were sent again
/// is left on them until all have seen it.
fn sent_again(base: Base, spec: &TrafficSpec) -> Vec<Rule> {
    if !(matches!(spec.fate, Fate::Queue(_)) && base.is_out()) {
        return Vec::new();
    }
    let end = match (base.counts_what_passed(), &spec.groups) {
        (false, None) => End::Unmark,
        (false, Some(_)) => End::Return,
        (true, Some(_)) => End::Unmark,
        (true, None) => return Vec::new(),
    };
    vec![Rule::new(vec![Match::SentAgain], end)]
}

fn always_spared(entry: &Entry) -> Vec<Rule> {
    let spare = |matches| Rule::new(matches, End::Return);
    let out = entry.base.is_out();
    let mut rules = vec![spare(vec![Match::Loopback { out }])];
    for (first, last) in NEIGHBOUR_TYPES {
        let kind = Match::Within(Field::IcmpType, vec![first], vec![last]);
        rules.push(spare(vec![Match::Family(Family::V6), Match::Protocol(ICMPV6), kind]));
    }
    for (first, last) in DHCP {
        let ports = Match::Within(Field::DestinationPort, first.to_be_bytes().into(), last.to_be_bytes().into());
        rules.push(spare(vec![Match::Protocol(UDP), ports]));
    }
    rules.extend(spared_by_port(entry, TCP, |port| Match::Is(port, SSH.to_be_bytes().into())));
    rules
}

/// By each port of a packet of this protocol.
fn spared_by_port(entry: &Entry, protocol: u8, condition: impl Fn(Field) -> Match) -> Vec<Rule> {
    let spare = |port| Rule::new(vec![Match::Protocol(protocol), condition(port)], End::Return);
    entry.ports().map(spare).collect()
}

/// By the controller's address and port, translated or not.
fn spared_controllers(entry: &Entry, injection: &InjectionId) -> Vec<Rule> {
    let base = entry.base;
    let mut rules = Vec::new();
    for (family, role) in CONTROLLERS {
        for remote in entry.remotes() {
            let endpoint = Match::EndpointInSet(family, remote.address(base, family), remote.port(base), role.set_of(injection));
            rules.push(Rule::new(vec![Match::Family(family), Match::Protocol(TCP), endpoint], End::Return));
        }
    }
    rules
}

fn spared_by_set(entry: &Entry, injection: &InjectionId, role: SetRole) -> Vec<Rule> {
    let set = role.set_of(injection);
    let spare = |matches| Rule::new(matches, End::Return);
    let by_address = |family| entry.recognised(family, &set).map(spare).collect();
    match role {
        SetRole::Spared4 | SetRole::Except4 => by_address(Family::V4),
        SetRole::Spared6 | SetRole::Except6 => by_address(Family::V6),
        SetRole::SparedPorts => [TCP, UDP]
            .into_iter()
            .flat_map(|protocol| spared_by_port(entry, protocol, |port| Match::InSet(port, set.clone())))
            .collect(),
        _ => Vec::new(),
    }
}

/// The refusals that the fault itself sends to a peer must get out, or a refused peer would wait for ever.
fn own_answers(base: Base, fate: Fate) -> Vec<Rule> {
    let unreachable = |family, protocol, kind| {
        let matches = vec![
            Match::Family(family),
            Match::Protocol(protocol),
            Match::Is(Field::IcmpType, vec![kind]),
        ];
        Rule::new(matches, End::Return)
    };
    let resets = Rule::new(vec![Match::Protocol(TCP), Match::TcpReset], End::Return);
    match fate {
        _ if !base.is_out() => Vec::new(),
        Fate::Cut(PacketFate::Drop) | Fate::Lose(_) | Fate::Queue(_) => Vec::new(),
        Fate::Cut(PacketFate::Reject) => vec![
            resets,
            unreachable(Family::V4, ICMP, ICMP_UNREACHABLE),
            unreachable(Family::V6, ICMPV6, ICMPV6_UNREACHABLE),
        ],
        Fate::Cut(PacketFate::Reset) => vec![resets],
    }
}

/// The rules that act while the gate is open; in the late chains those that count, whatever the gate.
fn fates(entry: &Entry, injection: &InjectionId, spec: &TrafficSpec) -> Vec<Rule> {
    let base = entry.base;
    let gate = Match::GateOpen(SetRole::Gate.set_of(injection));
    let mut rules = Vec::new();
    let each = protocols(spec)
        .into_iter()
        .flat_map(|protocol| whose(injection, spec).map(move |whose| (protocol, whose)));
    for (protocol, whose) in each {
        let meant = meant(entry, injection, spec, protocol).into_iter().chain(whose).collect::<Vec<_>>();
        if base.counts_what_passed() {
            rules.push(Rule::counted(meant, End::GoOn));
            continue;
        }
        for (only, end) in ends(base, spec.fate, protocol) {
            let matches = meant.iter().chain([&gate]).chain(&only).cloned().collect();
            rules.push(Rule::counted(matches, end));
        }
    }
    rules
}

/// What makes a packet of a peer one of those that are meant.
fn meant(entry: &Entry, injection: &InjectionId, spec: &TrafficSpec, protocol: Option<u8>) -> Vec<Match> {
    let base = entry.base;
    let interface = spec.interface.as_ref().map(|name| Match::Interface {
        out: base.is_out(),
        name: name.clone(),
    });
    let in_set = |side, role: SetRole| Match::InSet(side, role.set_of(injection));
    let remote = (!spec.ports.is_empty()).then(|| in_set(entry.remote.port(base), SetRole::RemotePorts));
    let local = (!spec.local_ports.is_empty()).then(|| in_set(local_port(base), SetRole::LocalPorts));
    let protocol = protocol.map(Match::Protocol);
    [interface, protocol, remote, local].into_iter().flatten().collect()
}

/// One rule per sort of group where only those are meant; `None` is everybody.
fn whose(injection: &InjectionId, spec: &TrafficSpec) -> impl Iterator<Item = Option<Match>> + use<> {
    let socket_in = |level, role: SetRole| Match::SocketIn {
        level,
        set: role.set_of(injection),
    };
    let groups = spec.groups.as_ref().map(|groups| socket_in(groups.level, SetRole::Groups));
    let prober = spec.prober.as_ref().filter(|_| groups.is_some());
    let prober = prober.map(|prober| Some(socket_in(prober.level, SetRole::Prober)));
    std::iter::once(groups).chain(prober)
}

/// One rule per protocol where ports are to be read; `None` is any.
fn protocols(spec: &TrafficSpec) -> Vec<Option<u8>> {
    let has_ports = !(spec.ports.is_empty() && spec.local_ports.is_empty());
    match spec.protocol {
        Some(Protocol::Tcp) => vec![Some(TCP)],
        Some(Protocol::Udp) => vec![Some(UDP)],
        Some(Protocol::Icmp) => vec![Some(ICMP), Some(ICMPV6)],
        None if has_ports => vec![Some(TCP), Some(UDP)],
        None => vec![None],
    }
}

/// What a rule must match besides, and its end; the first that matches decides.
///
/// A rejected new connection is answered with a reset: an ICMP error that comes back while connect() still holds the
/// socket is forgotten by the kernel, and the refusal would come a second late, with the next attempt.
fn ends(base: Base, fate: Fate, protocol: Option<u8>) -> Vec<(Vec<Match>, End)> {
    let tcp = Match::Protocol(TCP);
    let may_be_tcp = protocol.is_none_or(|number| number == TCP);
    match fate {
        Fate::Cut(PacketFate::Reject) if may_be_tcp => vec![(vec![tcp, Match::TcpOpening], End::Reset), (vec![], End::Reject)],
        Fate::Cut(PacketFate::Reject) => vec![(vec![], End::Reject)],
        Fate::Cut(PacketFate::Reset) if may_be_tcp => vec![(vec![tcp], End::Reset), (vec![], End::Drop)],
        Fate::Cut(PacketFate::Drop | PacketFate::Reset) => vec![(vec![], End::Drop)],
        // A drop at the output hook is told to the sender, which no network does: TCP would wait instead of sending again.
        Fate::Lose(lose) => {
            let end = if base.is_out() { End::Sink(lose.sink) } else { End::Drop };
            vec![(vec![], End::GoOn), (vec![Match::Chance(lose.per_million)], end)]
        }
        Fate::Queue(queues) => {
            let number = if base.is_out() { queues.out } else { queues.inward };
            number.map(|number| (vec![], End::Queue(number))).into_iter().collect()
        }
    }
}

fn local_port(base: Base) -> Field {
    if base.is_out() { Field::SourcePort } else { Field::DestinationPort }
}
