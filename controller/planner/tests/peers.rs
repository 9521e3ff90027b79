//! Peers of network faults: by which addresses a host is reached, what is left out, and what the plan says of it.

#[expect(dead_code, reason = "the other suites use the rest of it")]
mod fleet;

use std::collections::BTreeMap;

use controller_planner::{Fleet, PlanRefusal, parse_experiment, plan};
use controller_policy::Policy;
use fleet::{facts_of, fleet, name, wish};
use proto_model::host::{Connection, Host};
use proto_model::plan::Plan;

/// As in [`fleet`], every host with a session from its first address, and the same bridges on each.
fn connected() -> Fleet {
    let mut fleet = fleet();
    for host in &mut fleet.hosts {
        host.source_address = Some(host.facts.addresses[0].to_string());
        for bridge in ["172.17.0.1", "192.168.122.1", "169.254.3.4", "fe80::1"] {
            facts_of(host).addresses.push(bridge.parse().unwrap());
        }
    }
    fleet
}

fn change(fleet: &mut Fleet, host: &str, how: impl Fn(&mut Host)) {
    how(fleet.hosts.iter_mut().find(|h| h.name == name(host)).unwrap());
}

fn report(fleet: &mut Fleet, host: &str, address: &str) {
    change(fleet, host, |h| facts_of(h).addresses.push(address.parse().unwrap()));
}

fn cut(fleet: &Fleet, params: &[&str]) -> Result<Plan, PlanRefusal> {
    plan(&wish("network.partition", params, &["web-1"], None), fleet, &Policy::default(), 7)
}

#[track_caller]
fn goes_to(plan: &Result<Plan, PlanRefusal>, expected: &[&str]) {
    let plan = plan.as_ref().unwrap_or_else(|refusal| panic!("{refusal}"));
    let params = &plan.fault_steps().next().unwrap().1.params;
    assert_eq!(params["to"], serde_json::json!(expected), "{:?}", plan.notes);
}

#[track_caller]
fn says(plan: &Result<Plan, PlanRefusal>, words: &[&str]) {
    let notes = &plan.as_ref().unwrap_or_else(|refusal| panic!("{refusal}")).notes;
    for word in words {
        assert!(notes.iter().any(|note| note.contains(word)), "{word:?} is not in {notes:?}");
    }
}

#[test]
fn bridges_and_link_local_addresses_lead_to_no_other_host() {
    let planned = cut(&connected(), &["to=role=cache"]);
    goes_to(&planned, &["10.0.0.5", "fd00::5"]);
    says(
        &planned,
        &[
            "session from 10.0.0.5",
            "by its own report alone fd00::5",
            "172.17.0.1 (the usual address of a bridge",
            "169.254.3.4 (link-local)",
        ],
    );
    let mut bridge = connected();
    change(&mut bridge, "cache-1", |h| h.source_address = Some("172.17.0.1".into()));
    goes_to(&cut(&bridge, &["to=role=cache"]), &["10.0.0.5", "172.17.0.1", "fd00::5"]);
}

#[test]
fn an_address_that_another_connected_host_has_is_left_out_and_a_lost_host_has_none() {
    let mut shared = connected();
    report(&mut shared, "cache-1", "10.9.9.9");
    report(&mut shared, "web-2", "10.9.9.9");
    let planned = cut(&shared, &["to=host:cache-1"]);
    goes_to(&planned, &["10.0.0.5", "fd00::5"]);
    says(&planned, &["10.9.9.9 (web-2 has it as well)"]);
    change(&mut shared, "web-2", |h| h.connection = Connection::Lost);
    goes_to(&cut(&shared, &["to=host:cache-1"]), &["10.0.0.5", "10.9.9.9", "fd00::5"]);
    let mut lost = connected();
    change(&mut lost, "cache-1", |h| {
        h.connection = Connection::Lost;
        h.source_address = None;
    });
    says(&cut(&lost, &["to=host:cache-1"]), &["not connected: as it last reported"]);
}

#[test]
fn a_host_cannot_take_the_address_of_anothers_session() {
    let mut liar = connected();
    report(&mut liar, "web-4", "10.0.0.5");
    goes_to(&cut(&liar, &["to=host:cache-1"]), &["10.0.0.5", "fd00::5"]);
    let steered = cut(&liar, &["to=host:web-4"]);
    goes_to(&steered, &["10.0.0.4"]);
    says(&steered, &["10.0.0.5 (cache-1 has it as well)"]);
    // What its session shows counts, though it reports something else alone.
    change(&mut liar, "web-4", |h| facts_of(h).addresses = vec!["10.50.0.1".parse().unwrap()]);
    let told = cut(&liar, &["to=host:web-4"]);
    goes_to(&told, &["10.0.0.4", "10.50.0.1"]);
    says(&told, &["session from 10.0.0.4, by its own report alone 10.50.0.1"]);
}

#[test]
fn hosts_behind_one_address_are_a_clash_only_where_nothing_else_leads_to_them() {
    let mut behind = connected();
    for host in ["cache-1", "web-2"] {
        change(&mut behind, host, |h| h.source_address = Some("203.0.113.1:4711".into()));
    }
    let planned = cut(&behind, &["to=host:cache-1"]);
    goes_to(&planned, &["10.0.0.5", "fd00::5"]);
    says(&planned, &["203.0.113.1 (the session of web-2 comes from it as well)"]);
    change(&mut behind, "cache-1", |h| facts_of(h).addresses.clear());
    let refusal = cut(&behind, &["to=host:cache-1"]).unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("203.0.113.1 is claimed by two hosts, cache-1 and web-2"),
        "{refusal}"
    );
}

#[test]
fn except_narrows_before_anything_is_a_clash() {
    let mut twins = fleet();
    report(&mut twins, "web-2", "10.0.0.5");
    assert!(cut(&twins, &["to=host:cache-1"]).is_err());
    goes_to(&cut(&twins, &["to=host:cache-1", "except=10.0.0.0/24"]), &["fd00::5"]);
    let nothing = cut(&twins, &["to=host:cache-1", "except=host:cache-1"]);
    assert!(nothing.is_err(), "{nothing:?}");
    let excepted = cut(&fleet(), &["to=host:cache-1", "except=host:cache-1"]).unwrap_err();
    assert!(excepted.to_string().contains("left out entirely by except"), "{excepted}");
}

#[test]
fn a_probe_that_goes_around_the_fault_is_said() {
    let asked = |address: &str, from: &str, to: &str| {
        let text = format!(
            "apiVersion: fracas/v1\nkind: Experiment\nname: x\n\
             hypothesis: {{before: 4s, after: 6s, probes: [{{name: cache-answers, http: 'http://{address}:8080/', from: {from}, every: 500ms}}]}}\n\
             steps: [{{fault: network.partition, params: {{to: [{to}]}}, on: {{labels: role=web}}, duration: 6s}}]"
        );
        let experiment = parse_experiment(&text, "x.yaml", &BTreeMap::new()).unwrap_or_else(|e| panic!("{e}"));
        plan(&experiment, &connected(), &Policy::default(), 7)
    };
    let said = "probe cache-answers goes from web-1 to 10.0.0.77, which network.partition does not cover";
    says(&asked("10.0.0.77", "role=web", "role=cache"), &[said]);
    for (address, from, to) in [
        ("10.0.0.5", "role=web", "role=cache"),
        ("[fd00::5]", "role=web", "role=cache"),
        ("10.0.0.77", "role=web", "any"),
        // Not from a host that is attacked, to itself, by a name, and toward a name.
        ("10.0.0.77", "role=cache", "role=cache"),
        ("127.0.0.1", "role=web", "role=cache"),
        ("cache", "role=web", "role=cache"),
        ("10.0.0.77", "role=web", "cache.example"),
    ] {
        let notes = asked(address, from, to).unwrap().notes;
        assert!(
            !notes.iter().any(|note| note.contains("does not cover")),
            "{address} {from} {to}: {notes:?}"
        );
    }
}
