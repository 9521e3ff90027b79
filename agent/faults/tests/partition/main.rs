//! `network.partition` as the warden meets it: what it refuses and warns of on a fake host, and each example on the real kernel.

mod kernel;
mod protected;
mod shared;
mod unit;

use agent_faults::{AnyFault, Preflight, Scene};
use protected::Protected;
use proto_model::catalogue::FaultKind;
use proto_model::problem::Refusal;
use serde_json::{Value, json};

pub fn partition() -> &'static dyn AnyFault {
    agent_faults::find(&FaultKind::parse("network.partition").unwrap()).expect("it is registered")
}

fn asked(params: Value) -> Result<Preflight, Refusal> {
    asked_for(params, 60_000)
}

fn asked_for(params: Value, duration_ms: u64) -> Result<Preflight, Refusal> {
    preflight(partition(), params, duration_ms)
}

fn asked_of(fault: &dyn AnyFault, params: Value) -> Result<Preflight, Refusal> {
    preflight(fault, params, 60_000)
}

fn conflicts((one, a): (&dyn AnyFault, Value), (other, b): (&dyn AnyFault, Value)) -> bool {
    let (a, b) = (one.claims(&a).unwrap(), other.claims(&b).unwrap());
    a.iter().any(|x| b.iter().any(|y| x.conflicts_with(y)))
}

fn preflight(fault: &dyn AnyFault, params: Value, duration_ms: u64) -> Result<Preflight, Refusal> {
    let host = protected::host();
    let scene = Scene {
        view: &host,
        protection: &Protected,
        seed: 1,
        duration_ms,
    };
    fault.preflight(&params, &scene)
}

#[track_caller]
fn refused(params: Value, code: &str, path: &str, says: &str) {
    let refusal = asked(params).unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.path.as_str()), (code, path), "{refusal}");
    assert!(refusal.message.contains(says), "{refusal}");
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_path() {
    refused(json!({"to": []}), "invalid_params", "params.to", "0 peers");
    refused(json!({}), "invalid_params", "params.to", "required");
    refused(
        json!({"to": ["192.0.2.1"], "except": ["any"]}),
        "invalid_params",
        "params.except",
        "nothing is left",
    );
    let icmp = json!({"to": ["192.0.2.1"], "protocol": "icmp", "ports": ["80"]});
    refused(icmp, "invalid_params", "params.ports", "icmp has no ports");
    refused(
        json!({"to": ["192.0.2.1"], "interface": "a b"}),
        "invalid_params",
        "params.interface",
        "not the name",
    );
    refused(
        json!({"to": ["192.0.2.1"], "isolating": true}),
        "invalid_params",
        "params.isolating",
        "unknown",
    );
    refused(json!({"to": ["role=cache"]}), "invalid_params", "params.to", "not replaced");
    refused(json!({"to": ["host:web"]}), "invalid_params", "params.to", "not replaced");
    refused(
        json!({"to": ["192.0.2.1"], "except": ["role=cache"]}),
        "invalid_params",
        "params.except",
        "not replaced",
    );
}

#[test]
fn what_this_host_cannot_do_or_lose_is_refused() {
    refused(
        json!({"to": ["nowhere.example"]}),
        "no_match",
        "params.to",
        "resolves to no address",
    );
    refused(json!({"to": ["broken.example"]}), "no_match", "params.to", "broken.example");
    refused(
        json!({"to": ["192.0.2.1"], "interface": "eth7"}),
        "no_match",
        "params.interface",
        "no interface eth7",
    );
    refused(
        json!({"to": ["192.0.2.1"], "interface": "mgmt0"}),
        "protected",
        "params.interface",
        "mgmt0 is protected",
    );
    refused(
        json!({"to": ["192.0.2.1"], "ports": ["22"]}),
        "protected",
        "params.ports",
        "port 22",
    );
    refused(
        json!({"to": ["192.0.2.1"], "local_ports": ["22"]}),
        "protected",
        "params.local_ports",
        "port 22",
    );
    refused(json!({"to": ["192.0.2.1", "10.99.3.4"]}), "protected", "params.to", "pass mgmt0");
    refused(json!({"to": ["198.51.100.0/24"]}), "protected", "params.to", "198.51.100.9");
    refused(json!({"to": ["203.0.113.5"]}), "protected", "params.to", "203.0.113.0/24");
    for here in [json!(["127.0.0.1"]), json!(["::1", "127.0.0.0/8"]), json!(["192.0.2.200"])] {
        refused(json!({"to": here}), "no_match", "params.to", "this host itself");
    }
}

#[test]
fn a_cut_of_everything_is_short_and_spares_what_is_protected() {
    for everything in ["any", "0.0.0.0/0", "::/0", "2000::/3"] {
        let refusal = asked_for(json!({"to": [everything]}), 300_001).unwrap_err();
        assert_eq!((refusal.path.as_str(), refusal.allowed.as_deref()), ("duration", Some("1s..5m")));
    }
    let answer = asked_for(json!({"to": ["any"]}), 300_000).unwrap();
    assert!(answer.warnings.iter().any(|w| w.contains("198.51.100.9 is spared")), "{answer:?}");
    assert!(answer.warnings.iter().any(|w| w.contains("203.0.113.0/24 is spared")), "{answer:?}");
}

#[test]
fn what_is_accepted_says_what_it_touches_and_what_surprises() {
    let answer = asked(json!({"to": ["db.example"], "ports": ["5432"], "action": "reject"})).unwrap();
    assert_eq!(answer.touches, ["packets to and from 192.0.2.50, 2001:db8::50; remote ports 5432"]);
    assert!(answer.warnings.iter().any(|w| w.contains("established ones only stall")));
    assert_eq!(answer.engine.as_deref(), Some("nftables"));
    let answer = asked(json!({"to": ["198.51.100.0/24"], "except": ["198.51.100.9"], "direction": "in"})).unwrap();
    assert_eq!(answer.touches, ["packets from 198.51.100.0/24; except 198.51.100.9"]);
    let answer = asked(json!({"to": ["192.0.2.1"], "action": "reset", "protocol": "udp"})).unwrap();
    assert!(answer.warnings.iter().any(|w| w.contains("only tcp can be reset")), "{answer:?}");
    let answer = asked(json!({"to": ["192.0.2.1"], "ports": ["20-25"]})).unwrap();
    assert!(answer.warnings.iter().any(|w| w.contains("port 22 is spared")), "{answer:?}");
    let answer = asked(json!({"to": ["192.0.2.1", "192.0.2.200"]})).unwrap();
    assert!(
        answer.warnings.iter().any(|w| w.contains("192.0.2.200 is this host itself")),
        "{answer:?}"
    );
}

#[test]
fn overlapping_injections_conflict() {
    let claims = |params: Value| partition().claims(&params).unwrap();
    let conflict = |a: Value, b: Value| {
        let (a, b) = (claims(a), claims(b));
        a.iter().any(|x| b.iter().any(|y| x.conflicts_with(y)))
    };
    let cache = || json!({"to": ["192.0.2.1"]});
    assert!(conflict(cache(), json!({"to": ["192.0.2.0/24"], "direction": "in"})));
    assert!(conflict(cache(), json!({"to": ["any"], "protocol": "tcp"})));
    assert!(!conflict(cache(), json!({"to": ["192.0.2.2"]})));
    let (web, tls) = (json!({"to": ["any"], "ports": ["80"]}), json!({"to": ["any"], "ports": ["443"]}));
    assert!(!conflict(web, tls));
}

#[test]
fn peers_are_found_by_their_schema_format() {
    let description = partition().describe();
    for name in ["to", "except"] {
        assert_eq!(
            description.params["properties"][name]["items"]["format"],
            json!("fracas-peers"),
            "{name}"
        );
    }
    assert_eq!(description.params["required"], json!(["to"]));
}
