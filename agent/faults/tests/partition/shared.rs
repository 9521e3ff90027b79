//! What `network.delay` and `network.loss` have in common with a partition: strict keys, peers that the planner finds, claims; and their own surprises.

use agent_faults::AnyFault;
use proto_model::catalogue::FaultKind;
use serde_json::{Value, json};

use crate::{asked_of, conflicts};

fn kind(name: &str) -> &'static dyn AnyFault {
    agent_faults::find(&FaultKind::parse(name).unwrap()).expect("it is registered")
}

/// The least that each kind needs.
fn least() -> [(&'static dyn AnyFault, Value); 3] {
    [
        (kind("network.partition"), json!({"to": ["192.0.2.1"]})),
        (kind("network.delay"), json!({"to": ["192.0.2.1"], "delay": "100ms"})),
        (kind("network.loss"), json!({"to": ["192.0.2.1"], "percent": 10})),
    ]
}

#[test]
fn every_kind_finds_peers_by_format_and_refuses_strangers_by_path() {
    for (fault, params) in least() {
        let description = fault.describe();
        for name in ["to", "except"] {
            let format = &description.params["properties"][name]["items"]["format"];
            assert_eq!(format, &json!("fracas-peers"), "{} {name}", fault.kind());
        }
        for (stranger, value) in [("isolating", json!(true)), ("port", json!([80])), ("matching", json!({}))] {
            let mut strange = params.clone();
            strange[stranger] = value;
            let problems = fault.check(&strange).unwrap_err();
            assert_eq!(problems.0[0].path, format!("params.{stranger}"), "{}", fault.kind());
        }
        for (name, wrong) in [
            ("ports", json!(["no"])),
            ("protocol", json!("sctp")),
            ("direction", json!("up")),
            ("to", json!(["a b"])),
        ] {
            let mut mistaken = params.clone();
            mistaken[name] = wrong;
            let problems = fault.check(&mistaken).unwrap_err();
            assert_eq!(problems.0[0].path, format!("params.{name}"), "{}: {problems}", fault.kind());
        }
    }
}

#[test]
fn kinds_compete_for_packets_by_peer_way_and_port() {
    let [_, (delay, slow), (loss, lossy)] = least();
    let cut = kind("network.partition");
    assert!(conflicts((delay, slow.clone()), (loss, lossy)));
    assert!(conflicts((delay, slow.clone()), (cut, json!({"to": ["192.0.2.0/24"]}))));
    for other in [json!({"to": ["192.0.2.2"]}), json!({"to": ["192.0.2.1"], "direction": "in"})] {
        assert!(!conflicts((delay, slow.clone()), (cut, other)));
    }
    let port = |port| json!({"to": ["192.0.2.1"], "delay": "1s", "ports": [port]});
    assert!(!conflicts((delay, port("80")), (delay, port("443"))));
}

#[test]
fn defaults_are_outward_and_mistakes_are_named_with_their_range() {
    let [_, (delay, slow), (loss, lossy)] = least();
    for (fault, params) in [(delay, slow), (loss, lossy)] {
        assert_eq!(fault.check(&params).unwrap()["direction"], "out");
    }
    for (fault, params, path) in [
        (delay, json!({"to": ["192.0.2.1"]}), "params.delay"),
        (delay, json!({"to": ["192.0.2.1"], "delay": "0s"}), "params.delay"),
        (delay, json!({"to": ["192.0.2.1"], "delay": "61s"}), "params.delay"),
        (
            delay,
            json!({"to": ["192.0.2.1"], "delay": "10ms", "jitter": "11ms"}),
            "params.jitter",
        ),
        (
            delay,
            json!({"to": ["192.0.2.1"], "delay": "10ms", "correlation": 101}),
            "params.correlation",
        ),
        (
            delay,
            json!({"to": ["192.0.2.1"], "delay": "10ms", "distribution": "odd"}),
            "params.distribution",
        ),
        (loss, json!({"to": ["192.0.2.1"]}), "params.percent"),
        (loss, json!({"to": ["192.0.2.1"], "percent": 0}), "params.percent"),
        (loss, json!({"to": ["192.0.2.1"], "percent": 101}), "params.percent"),
        (loss, json!({"to": ["192.0.2.1"], "percent": 10, "p": 1}), "params.p"),
        (loss, json!({"to": ["192.0.2.1"], "p": 1}), "params.r"),
        (
            loss,
            json!({"to": ["192.0.2.1"], "p": 1, "r": 10, "correlation": 5}),
            "params.correlation",
        ),
    ] {
        let problems = fault.check(&params).unwrap_err();
        let problem = &problems.0[0];
        assert_eq!(problem.path, path, "{params}: {problem:?}");
    }
}

#[test]
fn surprises_and_engines_are_told_before() {
    let says = |name: &str, params: Value, words: &str| {
        let answer = asked_of(kind(name), params).unwrap();
        assert!(answer.warnings.iter().any(|warning| warning.contains(words)), "{words}: {answer:?}");
        answer.engine
    };
    let to = json!(["192.0.2.1"]);
    assert_eq!(
        says("network.delay", json!({"to": to, "delay": "100ms"}), "three times 100ms").as_deref(),
        Some("packets")
    );
    says(
        "network.delay",
        json!({"to": to, "delay": "100ms", "direction": "in"}),
        "ping does not show",
    );
    says("network.delay", json!({"to": to, "delay": "100ms", "jitter": "10ms"}), "overtake");
    assert_eq!(
        says("network.loss", json!({"to": to, "percent": 60}), "hardly").as_deref(),
        Some("nftables")
    );
    assert_eq!(
        says("network.loss", json!({"to": to, "percent": 60, "correlation": 20}), "hardly").as_deref(),
        Some("packets")
    );
    let quiet = asked_of(kind("network.delay"), json!({"to": to, "delay": "100ms", "protocol": "udp"})).unwrap();
    assert_eq!(quiet.warnings, Vec::<String>::new());
}
