//! The owner's policy: every rule refuses with its name, the number and what is allowed, counted over all active runs.

// Not every suite needs every host.
#[allow(dead_code)]
mod fleet;

use controller_planner::{AttackWish, Experiment, Fleet, PlanRefusal, attack, parse_experiment, plan};
use controller_policy::{ActiveRun, Denial, Policy, Stage, check, unattended};
use fleet::{burn, fleet, name, wish};
use proto_model::id::RunId;
use proto_model::plan::{Origin, Plan};
use std::collections::{BTreeMap, BTreeSet};

fn ruled(experiment: &Experiment, fleet: &Fleet, policy: &str) -> Result<Plan, PlanRefusal> {
    plan(experiment, fleet, &Policy::from_toml(policy).unwrap(), 7)
}

#[track_caller]
fn refuses(result: Result<Plan, PlanRefusal>, code: &str, words: &[&str]) {
    let refusal = result.expect_err("was planned");
    let text = refusal.to_string();
    assert_eq!(refusal.error.code, code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

/// The same hosts without an env label.
fn unlabelled() -> Fleet {
    let mut fleet = fleet();
    fleet.hosts.iter_mut().for_each(|host| drop(host.labels.remove("env")));
    fleet
}

/// The same hosts in an environment of this name.
fn placed(environment: &str) -> Fleet {
    let mut fleet = fleet();
    fleet.hosts.iter_mut().for_each(|host| {
        host.labels.insert("env".into(), environment.into());
    });
    fleet
}

fn run(hosts: &[&str], widest: usize, service: Option<&str>) -> ActiveRun {
    ActiveRun {
        id: RunId::generate(),
        origin: Origin::Attack,
        environment: "staging".into(),
        service: service.map(str::to_owned),
        hosts: hosts.iter().map(|text| name(text)).collect(),
        widest,
    }
}

fn planning_allows(plan: &Plan, policy: &Policy, fleet: &Fleet) -> Result<(), Denial> {
    check(plan, Stage::Planning, policy, &fleet.occupancy())
}

fn guarded(fault: &str) -> Experiment {
    let text = format!(
        "apiVersion: fracas/v1\nkind: Experiment\nname: x\nguards: [{{name: g, tcp: '10.0.0.5:80'}}]\nsteps: [{{fault: {fault}, on: {{hosts: [web-1]}}}}]"
    );
    parse_experiment(&text, "x.yaml", &BTreeMap::new()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn each_rule_refuses_with_its_name_its_number_and_what_is_allowed() {
    let two = burn("role=web", Some("2"));
    for (rules, words) in [
        (
            "max_faulted_hosts = 1",
            ["policy.staging.max_faulted_hosts", "injects 2 hosts, and 0", "(allowed: ..1)"],
        ),
        (
            "max_duration = '10s'",
            ["policy.staging.max_duration", "20s is longer", "(allowed: ..10s)"],
        ),
        (
            "faults = ['network.*']",
            ["policy.staging.faults", "cpu.burn", "(allowed: network.*)"],
        ),
        ("faults = []", ["policy.staging.faults", "cpu.burn", "(allowed: no fault)"]),
    ] {
        refuses(ruled(&two, &fleet(), &format!("[policy.staging]\n{rules}")), "policy", &words);
    }
    let rules = "[policy.staging]\nmax_faulted_hosts = 2\nmax_duration = '20s'\nfaults = ['cpu.*']";
    assert!(ruled(&two, &fleet(), rules).is_ok(), "what is allowed is allowed to its last");
}

#[test]
fn active_runs_count_with_the_most_that_they_may_inject() {
    let rules = "[policy.staging]\nmax_faulted_hosts = 3";
    let one = burn("web-1", None);
    let mut fleet = fleet();
    // Nothing of it acts at this moment; its next step may.
    fleet.active = vec![run(&["web-2", "web-3", "web-4"], 2, None)];
    assert!(ruled(&one, &fleet, rules).is_ok());
    fleet.active.push(run(&["cache-1"], 1, None));
    refuses(
        ruled(&one, &fleet, rules),
        "policy",
        &["max_faulted_hosts", "and 3 of staging", "..3"],
    );
    fleet.active[1].environment = "qa".into();
    assert!(ruled(&one, &fleet, rules).is_ok(), "another environment has its own count");
    // A host that is injected and that no run answers for counts too.
    let stray = fleet.hosts.iter_mut().find(|host| host.name == name("cache-1")).unwrap();
    stray.active_injections = 1;
    fleet.active.truncate(1);
    refuses(ruled(&one, &fleet, rules), "policy", &["max_faulted_hosts", "and 3 of staging"]);
}

#[test]
fn a_service_loses_no_more_than_its_share() {
    let mut fleet = fleet();
    for host in fleet.hosts.iter_mut().filter(|host| host.labels["role"] == "web") {
        host.labels.insert("service".into(), "shop".into());
    }
    let rules = "[policy.staging]\nmax_faulted_share_per_service = 50\nruns_per_service = 9";
    assert!(ruled(&burn("role=web", Some("2")), &fleet, rules).is_ok());
    refuses(
        ruled(&burn("role=web", Some("3")), &fleet, rules),
        "policy",
        &[
            "policy.staging.max_faulted_share_per_service",
            "3 of 4 hosts of service shop",
            "..50%",
        ],
    );
    fleet.active = vec![run(&["web-3", "web-4", "cache-1"], 1, None)];
    assert!(ruled(&burn("web-1", None), &fleet, rules).is_ok());
    fleet.active[0].widest = 3;
    refuses(
        ruled(&burn("web-1", None), &fleet, rules),
        "policy",
        &["3 of 4 hosts of service shop"],
    );
    assert!(
        ruled(&burn("cache-1", None), &fleet, rules).is_ok(),
        "what touches no host of the service is not asked for it"
    );
}

#[test]
fn a_service_has_one_run_at_a_time() {
    let mut experiment = burn("web-1", None);
    experiment.service = Some("shop".into());
    let mut fleet = fleet();
    fleet.active = vec![run(&["web-4"], 1, Some("basket"))];
    assert!(ruled(&experiment, &fleet, "").is_ok());
    fleet.active.push(run(&["web-3"], 1, Some("shop")));
    refuses(
        ruled(&experiment, &fleet, ""),
        "policy",
        &["policy.staging.runs_per_service", "1 of service shop's runs", "..1"],
    );
    assert!(ruled(&experiment, &fleet, "[policy.staging]\nruns_per_service = 2").is_ok());
}

#[test]
fn a_host_without_an_environment_is_production_and_production_has_to_be_opened() {
    let fleet = unlabelled();
    refuses(
        ruled(&burn("web-1", None), &fleet, ""),
        "policy",
        &[
            "policy.production",
            "does not open production",
            "[policy.production] in controller.toml",
        ],
    );
    refuses(
        ruled(&burn("web-1", None), &fleet, "[policy.production]"),
        "policy",
        &["guards", "needs a guard, and this has 0", "1 or more"],
    );
    let probed = attack(AttackWish {
        fault: "cpu.burn".into(),
        params: vec![("percent".into(), "60".into())],
        on: vec!["web-1".into()],
        duration: Some(proto_model::quantity::Millis(20_000)),
        probes: vec!["tcp=10.0.0.5:80,within=300ms".into()],
        ..AttackWish::default()
    })
    .unwrap();
    let plan = ruled(&probed, &fleet, "[policy.production]").unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!((plan.environment.as_str(), plan.guards.len()), ("production", 1));
    assert!(Policy::default().require_confirm(&plan.environment));
}

#[test]
fn facts_never_reach_production() {
    let narrowed = burn("role=web,fact.cpus=0", None);
    assert!(ruled(&narrowed, &fleet(), "").is_ok());
    refuses(
        ruled(&narrowed, &unlabelled(), "[policy.production]"),
        "environment",
        &["steps[0].on", "fact.cpus", "labels and names, in production"],
    );
    let peers = wish("network.partition", &["to=role=cache,fact.cpus=0"], &["web-1"], None);
    assert!(ruled(&peers, &fleet(), "").is_ok());
    refuses(ruled(&peers, &unlabelled(), "[policy.production]"), "environment", &["fact.cpus"]);
    let text = |section: &str| {
        format!(
            "apiVersion: fracas/v1\nkind: Experiment\nname: x\n{section}\
             steps: [{{fault: cpu.burn, params: {{percent: 5}}, duration: 20s, on: {{hosts: [web-1]}}}}]"
        )
    };
    let asks = "{name: a, tcp: '10.0.0.5:80', from: 'role=cache,fact.cpus=0'}";
    let guard = "{name: g, tcp: '10.0.0.5:80'}";
    for (section, path) in [
        (
            format!("guards: [{guard}]\nhypothesis: {{probes: [{asks}]}}\n"),
            "hypothesis.probes[0].from",
        ),
        (format!("guards: [{asks}]\n"), "guards[0].from"),
    ] {
        let probed = parse_experiment(&text(&section), "x.yaml", &BTreeMap::new()).unwrap();
        assert!(ruled(&probed, &fleet(), "").is_ok());
        refuses(
            ruled(&probed, &unlabelled(), "[policy.production]"),
            "environment",
            &[path, "fact.cpus"],
        );
        refuses(
            ruled(&probed, &placed("Prod"), "[policy.prod]"),
            "environment",
            &[path, "fact.cpus"],
        );
    }
}

#[test]
fn whatever_production_is_called_it_is_production() {
    let one = burn("web-1", None);
    for (label, declared) in [("prod", "prod"), ("Production", "production"), ("PROD", "prod"), ("live", "live")] {
        refuses(
            ruled(&one, &placed(label), ""),
            "policy",
            &[&format!("policy.{declared}"), &format!("does not open {declared}")],
        );
        let rules = format!("[policy.{label}]");
        refuses(ruled(&one, &placed(label), &rules), "policy", &["needs a guard, and this has 0"]);
        assert!(Policy::from_toml(&rules).unwrap().require_confirm(label));
    }
    let own = "[environment.shop]\nproduction = true\n[environment.lab]\n[policy.shop]";
    refuses(ruled(&one, &placed("Shop"), own), "policy", &["needs a guard"]);
    let plan = ruled(&one, &placed("LAB"), own).unwrap();
    assert_eq!((plan.environment.as_str(), plan.production), ("lab", false));
}

#[test]
fn an_environment_that_nobody_declared_is_refused_with_the_list() {
    let one = burn("web-1", None);
    refuses(
        ruled(&one, &placed("staging-7"), ""),
        "environment",
        &[
            "staging-7 is not declared",
            "[environment.staging-7]",
            "prod, production, qa, staging",
        ],
    );
    let mut named = burn("web-1", None);
    named.environment = Some("stagign".into());
    refuses(ruled(&named, &fleet(), ""), "environment", &["stagign is not declared"]);
    let declared = "[environment.qa]";
    refuses(
        ruled(&one, &fleet(), declared),
        "environment",
        &["staging is not declared", "(allowed: production, qa)"],
    );
    named.environment = Some("STAGING".into());
    assert_eq!(ruled(&named, &fleet(), "").unwrap().environment, "staging");
    let mut mixed = fleet();
    mixed.hosts.iter_mut().for_each(|host| {
        if host.name == name("web-2") {
            host.labels.insert("env".into(), "Staging".into());
        }
    });
    let both = ruled(&burn("role=web", None), &mixed, "").unwrap();
    assert_eq!(both.hosts.len(), 4, "one environment, however it is spelled");
}

#[test]
fn a_guard_that_is_too_slow_guards_nothing() {
    let guarded = |every: &str, breaks: u32, duration: &str| {
        let text = format!(
            "apiVersion: fracas/v1\nkind: Experiment\nname: x\nguards: [{{name: g, tcp: '10.0.0.5:80', every: {every}, timeout: 1s, breaks: {breaks}}}]\n\
             steps: [{{fault: cpu.burn, params: {{percent: 5}}, duration: {duration}, on: {{hosts: [web-1]}}}},\n\
             {{fault: cpu.burn, params: {{percent: 6}}, duration: 1h, on: {{hosts: [web-1]}}}}]"
        );
        parse_experiment(&text, "x.yaml", &BTreeMap::new()).unwrap_or_else(|e| panic!("{e}"))
    };
    let rules = "[policy.production]";
    let never = guarded("1h", 1_000, "20m");
    refuses(
        ruled(&never, &unlabelled(), rules),
        "policy",
        &[
            "guards",
            "1000 times 1h",
            "(allowed: ..1m: at most 1m and at most half of the shortest fault)",
        ],
    );
    assert!(ruled(&never, &fleet(), "").is_ok(), "elsewhere a person may guard as they like");
    // 3 times 1s and a timeout of 1s are 4s.
    assert!(ruled(&guarded("1s", 3, "8s"), &unlabelled(), rules).is_ok());
    refuses(
        ruled(&guarded("1s", 3, "7s"), &unlabelled(), rules),
        "policy",
        &["g, the quickest, takes 4s at worst", "steps[0], lasts 7s", "(allowed: ..3500ms"],
    );
    refuses(
        ruled(&guarded("1s", 60, "1h"), &unlabelled(), rules),
        "policy",
        &["takes 61s", "..1m"],
    );
    assert!(ruled(&guarded("1s", 59, "1h"), &unlabelled(), rules).is_ok());
    let mut scheduled = guarded("1h", 1_000, "20m");
    scheduled.origin = Origin::Schedule;
    refuses(
        ruled(&scheduled, &fleet(), ""),
        "unattended",
        &["an unattended run needs a guard that stops it in time"],
    );
}

#[test]
fn a_plan_made_earlier_is_held_against_the_policy_of_now() {
    let made = ruled(&burn("role=web", Some("2")), &fleet(), "").unwrap();
    let now = Policy::from_toml("[policy.staging]\nmax_faulted_hosts = 1").unwrap();
    let refusal = planning_allows(&made, &now, &fleet()).unwrap_err();
    assert!(refusal.to_string().contains("max_faulted_hosts"), "{refusal}");
    assert!(planning_allows(&made, &Policy::default(), &fleet()).is_ok());
    let busy = Fleet {
        active: vec![run(&["web-1", "web-2", "web-3", "web-4"], 4, None)],
        ..fleet()
    };
    let three = Policy::from_toml("[policy.staging]\nmax_faulted_hosts = 3").unwrap();
    assert!(planning_allows(&made, &three, &busy).is_err() && planning_allows(&made, &three, &busy.at_rest()).is_ok());
}

#[test]
fn unattended_runs_need_a_guard_and_a_way_back() {
    let none = Policy::default();
    let bare = ruled(&burn("web-1", None), &fleet(), "").unwrap();
    let refusal = unattended(&bare, &none).unwrap_err();
    assert_eq!(refusal.code, "unattended");
    assert!(refusal.to_string().contains("needs a guard, and this has 0"), "{refusal}");
    let kill = ruled(&guarded("process.kill"), &fleet(), "").unwrap();
    let refusal = unattended(&kill, &none).unwrap_err();
    assert!(refusal.to_string().contains("policy.staging.irreversible_unattended"), "{refusal}");
    let allowed = Policy::from_toml("[policy.staging]\nirreversible_unattended = true").unwrap();
    assert!(unattended(&kill, &allowed).is_ok());
    let reversible = ruled(&guarded("cpu.burn, params: {percent: 5}, duration: 5s"), &fleet(), "").unwrap();
    assert!(unattended(&reversible, &none).is_ok());
    assert_eq!(reversible.hosts.iter().map(|host| &host.name).collect::<BTreeSet<_>>().len(), 1);
}
