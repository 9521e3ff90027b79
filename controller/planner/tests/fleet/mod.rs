//! A small fleet of staging hosts with a catalogue of three kinds, for tests of the planner.

use controller_planner::{AttackWish, Experiment, Fleet, attack};
use proto_model::catalogue::{Catalogue, DurationRule, FaultKind, KindDescription};
use proto_model::host::{Availability, Connection, Host, HostFacts, Membership};
use proto_model::id::HostName;
use proto_model::injection::{Cleanliness, Reversal};
use proto_model::quantity::Millis;
use proto_model::time::Timestamp;
use serde_json::{Value, json};

pub fn name(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

/// web-1..4 in zones a and b, and cache-1 with an address in both families.
pub fn fleet() -> Fleet {
    let web = |n: u8, zone| {
        host(
            &format!("web-{n}"),
            &[("env", "staging"), ("role", "web"), ("zone", zone)],
            &format!("10.0.0.{n}"),
        )
    };
    let mut cache = host("cache-1", &[("env", "staging"), ("role", "cache"), ("zone", "a")], "10.0.0.5");
    facts_of(&mut cache).addresses.push("fd00::5".parse().unwrap());
    let hosts = vec![web(3, "a"), cache, web(1, "a"), web(4, "b"), web(2, "a")];
    Fleet {
        catalogues: [(catalogue().digest(), catalogue())].into(),
        hosts,
        active: Vec::new(),
    }
}

pub fn host(text: &str, labels: &[(&str, &str)], address: &str) -> Host {
    Host {
        name: name(text),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        facts: std::sync::Arc::new(HostFacts {
            hostname: text.to_owned(),
            boot_id: format!("boot-{text}"),
            agent_version: "0.1.0".into(),
            addresses: vec![address.parse().unwrap()],
            ..HostFacts::default()
        }),
        connection: Connection::Connected,
        cleanliness: Cleanliness::Clean,
        availability: Availability::Open,
        membership: Membership::Enrolled,
        note: None,
        catalogue_digest: catalogue().digest(),
        active_injections: 0,
        enrolled_at: Timestamp(0),
        last_seen: None,
        certificate_not_after: None,
        source_address: None,
        clock_offset_ms: None,
        authority: Default::default(),
    }
}

/// For a change.
pub fn facts_of(host: &mut Host) -> &mut HostFacts {
    std::sync::Arc::make_mut(&mut host.facts)
}

pub fn catalogue() -> Catalogue {
    let percent = json!({ "type": "number", "format": "fracas-percent", "minimum": 1, "maximum": 100 });
    let to = json!({ "type": "array", "items": { "type": "string", "format": "fracas-peers" } });
    let except = to.clone();
    let gone = Reversal::Irreversible {
        why: "a dead process stays dead".into(),
    };
    Catalogue(vec![
        kind(
            "cpu.burn",
            &["stress"],
            Reversal::Full,
            DurationRule::Required,
            json!({ "properties": { "percent": percent }, "required": ["percent"] }),
        ),
        kind(
            "network.partition",
            &["blackhole", "packet loss"],
            Reversal::Full,
            DurationRule::Required,
            json!({ "properties": { "to": to, "except": except }, "required": ["to"] }),
        ),
        kind("process.kill", &[], gone, DurationRule::None, json!({ "properties": {} })),
    ])
}

fn kind(kind: &str, aliases: &[&str], reversal: Reversal, duration: DurationRule, params: Value) -> KindDescription {
    KindDescription {
        kind: FaultKind::parse(kind).unwrap(),
        summary: String::new(),
        aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
        reversal,
        duration,
        lasts_ms: (duration != DurationRule::Required).then_some(20_000),
        params,
        examples: Vec::new(),
        measured_by: String::new(),
        undone_by: String::new(),
    }
}

pub fn wish(fault: &str, params: &[&str], on: &[&str], pick: Option<&str>) -> Experiment {
    let pairs = params.iter().filter_map(|p| p.split_once('='));
    attack(AttackWish {
        fault: fault.into(),
        params: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        on: on.iter().map(|s| (*s).to_owned()).collect(),
        pick: pick.map(str::to_owned),
        duration: (fault != "process.kill").then_some(Millis(20_000)),
        ..AttackWish::default()
    })
    .unwrap()
}

pub fn burn(on: &str, pick: Option<&str>) -> Experiment {
    wish("cpu.burn", &["percent=60"], &[on], pick)
}

type Spoil = fn(&mut Host);
/// Every way in which a host is unfit, with its word.
pub const SPOILT: [(&str, Spoil); 7] = [
    ("locked", |h| h.membership = Membership::Locked),
    ("dirty", |h| h.cleanliness = Cleanliness::Dirty),
    ("unproven", |h| h.cleanliness = Cleanliness::Unproven),
    ("lost", |h| h.connection = Connection::Lost),
    ("cordoned", |h| h.availability = Availability::Cordoned),
    ("halted", |h| h.availability = Availability::Halted),
    ("injected", |h| h.active_injections = 1),
];
