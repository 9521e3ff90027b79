//! What a kind says that it stands on, and its preflight, agree: what is surely missing is refused before anything is touched.

use std::path::Path;

use agent_faults::{Protection, Scene, registry};
use agent_levers::fake::FakeHost;
use agent_view::{Clsact, Feature, Presence, Process, Volume};
use proto_model::catalogue::FaultKind;
use proto_model::doctor::{Ability, Can};
use proto_model::peer::Network;
use serde_json::json;

struct Unprotected;

impl Protection for Unprotected {
    fn process(&self, _process: &Process) -> Option<String> {
        None
    }
    fn networks(&self) -> Result<Vec<Network>, String> {
        Ok(Vec::new())
    }
    fn interface(&self, _name: &str) -> Option<String> {
        None
    }
    fn port(&self, _port: u16) -> Option<String> {
        None
    }
    fn path(&self, _path: &Path, _volume: &Volume) -> Option<String> {
        None
    }
    fn memory_reserve(&self) -> u64 {
        0
    }
    fn disk_reserve(&self, _volume: &Volume) -> u64 {
        0
    }
}

fn absent(feature: Feature) -> Presence {
    Presence::Absent {
        why: format!("no {}", feature.name()),
        fix: "apt install it".to_owned(),
    }
}

/// Without these packets cannot be chosen at all: not by rules, nor by filters.
const PACKETS: [&[Feature]; 3] = [
    &[Feature::NetAdmin],
    &[Feature::PacketRules, Feature::Netem],
    &[Feature::PacketRules, Feature::BpfPrograms],
];

#[test]
fn every_network_fault_is_refused_where_the_kernel_lacks_what_it_needs() {
    for features in PACKETS {
        let host = FakeHost::new();
        let why = format!("no {}", features[0].name());
        for feature in features {
            host.set_presence(*feature, absent(*feature));
        }
        let scene = Scene {
            view: &host,
            protection: &Unprotected,
            seed: 1,
            duration_ms: 60_000,
        };
        for fault in registry().filter(|fault| fault.kind().family() == "network") {
            assert_eq!(fault.ability(&host).can, Can::No, "{}", fault.kind());
            for example in fault.describe().examples {
                let refusal = fault.preflight(&example.params, &scene).unwrap_err();
                assert_eq!(
                    (refusal.code.as_str(), refusal.path.as_str()),
                    ("unsupported", "fault"),
                    "{}",
                    fault.kind()
                );
                assert!(
                    refusal.message.contains(&why) && refusal.message.contains("apt install it"),
                    "{refusal}"
                );
            }
        }
    }
}

#[test]
fn what_a_kind_cannot_do_without_is_refused_in_preflight() {
    for feature in Feature::ALL {
        let host = FakeHost::new();
        host.set_presence(feature, absent(feature));
        let scene = Scene {
            view: &host,
            protection: &Unprotected,
            seed: 1,
            duration_ms: 60_000,
        };
        for fault in registry().filter(|fault| fault.ability(&host).can == Can::No) {
            for example in fault.describe().examples {
                let refusal = fault.preflight(&example.params, &scene).unwrap_err();
                let (kind, name) = (fault.kind(), feature.name());
                assert_eq!(refusal.code, "unsupported", "{kind} without {name}: {refusal}");
                assert!(refusal.message.contains(&format!("no {name}")), "{kind} without {name}: {refusal}");
            }
        }
    }
}

fn engine_of(host: &FakeHost, kind: &str, params: serde_json::Value) -> (Option<String>, Vec<String>) {
    let scene = Scene {
        view: host,
        protection: &Unprotected,
        seed: 1,
        duration_ms: 60_000,
    };
    let fault = agent_faults::find(&FaultKind::parse(kind).unwrap()).expect("it is registered");
    let told = fault.preflight(&fault.check(&params).unwrap(), &scene).unwrap();
    (told.engine, told.warnings)
}

#[test]
fn the_kernels_queue_is_used_where_it_says_what_is_asked_and_a_worker_otherwise_with_the_reason() {
    let slow = |more: serde_json::Value| {
        let mut params = json!({"to": ["192.0.2.10"], "delay": "100ms", "protocol": "udp"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let bare = FakeHost::new();
    bare.set_presence(Feature::Netem, absent(Feature::Netem));
    let passing_on = FakeHost::new();
    passing_on.set_knob("/proc/sys/net/ipv4/ip_forward", "1");
    let taken = FakeHost::new();
    taken.set_clsact("eth0", Clsact::Taken);
    let plain = FakeHost::new();
    for (host, params, engine, says) in [
        (&plain, slow(json!({})), "netem", None),
        (&plain, slow(json!({"jitter": "20ms", "distribution": "pareto"})), "netem", None),
        (&plain, slow(json!({"direction": "both"})), "netem", None),
        (&passing_on, slow(json!({})), "netem", None),
        (&bare, slow(json!({})), "packets", None),
        (
            &plain,
            slow(json!({"jitter": "20ms", "correlation": 25})),
            "packets",
            Some("narrows the jitter"),
        ),
        (&plain, slow(json!({"delay": "10s"})), "packets", Some("under way for so long")),
        (
            &passing_on,
            slow(json!({"direction": "in"})),
            "packets",
            Some("passes packets of others on"),
        ),
        (&taken, slow(json!({})), "packets", Some("ingress queue on eth0")),
    ] {
        let (used, warnings) = engine_of(host, "network.delay", params.clone());
        assert_eq!(used.as_deref(), Some(engine), "{params}: {warnings:?}");
        let told = |words: &str| {
            warnings
                .iter()
                .any(|warning| warning.contains("although this host has netem") && warning.contains(words))
        };
        assert_eq!(told(says.unwrap_or_default()), says.is_some(), "{params}: {warnings:?}");
    }
}

#[test]
fn a_delay_that_no_worker_can_time_is_injected_by_the_kernels_queue_and_says_so() {
    let delay = |more: serde_json::Value| {
        let mut params = json!({"to": ["192.0.2.10"], "delay": "100ms"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    for feature in [Feature::ChangeUser, Feature::Ptrace] {
        let host = FakeHost::new();
        host.set_presence(feature, absent(feature));
        let why = format!("no {}", feature.name());
        // Datagrams are not timed on any host.
        for (params, says_so) in [(delay(json!({})), true), (delay(json!({"protocol": "udp"})), false)] {
            let (engine, warnings) = engine_of(&host, "network.delay", params.clone());
            assert_eq!(engine.as_deref(), Some("netem"), "{params}");
            let said = warnings
                .iter()
                .any(|warning| warning.contains("observation will be unknown") && warning.contains(&why));
            assert_eq!(said, says_so, "{params}: {warnings:?}");
        }
        let fault = agent_faults::find(&FaultKind::parse("network.delay").unwrap()).unwrap();
        let ability = fault.ability(&host);
        assert_eq!(ability.can, Can::Yes);
        assert!(ability.why.as_ref().is_some_and(|limit| limit.contains(&why)), "{ability:?}");
        // The engine of packets is a worker itself.
        host.set_presence(Feature::Netem, absent(Feature::Netem));
        assert_eq!(fault.ability(&host).can, Can::No);
    }
}

#[test]
fn a_host_that_forwards_packets_is_warned_of() {
    let (plain, forwards) = (FakeHost::new(), FakeHost::new());
    forwards.set_knob("/proc/sys/net/ipv4/ip_forward", "1");
    for (kind, more) in [
        ("network.partition", json!({})),
        ("network.delay", json!({"delay": "100ms"})),
        ("network.loss", json!({"percent": 20})),
    ] {
        let mut params = json!({"to": ["192.0.2.10"], "protocol": "udp"});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let is_warned = |host: &FakeHost| {
            let (_, warnings) = engine_of(host, kind, params.clone());
            warnings.iter().any(|warning| warning.contains("IP forwarding is on"))
        };
        assert!(is_warned(&forwards) && !is_warned(&plain), "{kind}");
    }
}

#[test]
fn losses_are_rules_when_single_and_an_engines_otherwise_or_where_rules_know_no_chance() {
    let (single, bursts) = (
        json!({"to": ["192.0.2.10"], "percent": 20}),
        json!({"to": ["192.0.2.10"], "percent": 20, "correlation": 25}),
    );
    let host = FakeHost::new();
    assert_eq!(engine_of(&host, "network.loss", single.clone()).0.as_deref(), Some("nftables"));
    assert_eq!(engine_of(&host, "network.loss", bursts.clone()).0.as_deref(), Some("netem"));
    host.set_presence(Feature::RandomRules, absent(Feature::RandomRules));
    assert_eq!(engine_of(&host, "network.loss", single).0.as_deref(), Some("netem"));
    host.set_presence(Feature::Netem, absent(Feature::Netem));
    assert_eq!(engine_of(&host, "network.loss", bursts).0.as_deref(), Some("packets"));
}

#[test]
fn a_host_without_netem_says_by_what_it_is_done_instead_and_why() {
    let host = FakeHost::new();
    let told = |kind: &str| agent_faults::find(&FaultKind::parse(kind).unwrap()).unwrap().ability(&host);
    assert_eq!(told("network.delay"), Ability::yes().by("netem"));
    host.set_presence(Feature::Netem, absent(Feature::Netem));
    let delay = told("network.delay");
    assert_eq!((delay.can, delay.engine.as_deref()), (Can::Yes, Some("packets")));
    assert_eq!(delay.why.as_deref(), Some("not by netem: no sch_netem"));
    assert_eq!(delay.fix.as_deref(), Some("apt install it"));
    let loss = told("network.loss");
    assert_eq!((loss.can, loss.engine.as_deref()), (Can::Yes, Some("nftables")));
    assert_eq!(loss.why.as_deref(), Some("losses in bursts by packets: not by netem: no sch_netem"));
}

#[test]
fn doubt_refuses_nothing() {
    let host = FakeHost::new();
    for feature in Feature::ALL {
        let (why, fix) = ("closed".to_owned(), "open it".to_owned());
        host.set_presence(feature, Presence::Unknown { why, fix });
    }
    let scene = Scene {
        view: &host,
        protection: &Unprotected,
        seed: 1,
        duration_ms: 60_000,
    };
    for fault in registry() {
        assert_ne!(fault.ability(&host).can, Can::No, "{}", fault.kind());
        for example in fault.describe().examples {
            let refusal = fault.preflight(&example.params, &scene).err();
            assert!(
                refusal.as_ref().is_none_or(|refusal| refusal.code != "unsupported"),
                "{}: {refusal:?}",
                fault.kind()
            );
        }
    }
}
