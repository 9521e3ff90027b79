//! Plans: which hosts, which refusals, which words.

mod fleet;

use std::collections::{BTreeMap, BTreeSet};

use controller_planner::{AttackWish, Experiment, Fleet, PlanRefusal, attack, difference, parse_experiment, plan};
use controller_policy::Policy;
use fleet::{SPOILT, burn, facts_of, fleet, host, name, wish};
use proto_model::host::{Availability, Connection, Membership};
use proto_model::injection::Reversal;
use proto_model::plan::{FaultStep, Origin, Plan};
use proto_model::probe::Prober;
use proto_model::quantity::Millis;
use serde_json::json;

fn planned(experiment: &Experiment, fleet: &Fleet) -> Plan {
    plan(experiment, fleet, &Policy::default(), 7).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn refused(experiment: &Experiment, fleet: &Fleet) -> PlanRefusal {
    match plan(experiment, fleet, &Policy::default(), 7) {
        Err(refusal) => refusal,
        Ok(plan) => panic!("was planned: {:?}", plan.steps),
    }
}

#[track_caller]
fn is_refused(experiment: &Experiment, fleet: &Fleet, code: &str, words: &[&str]) {
    let refusal = refused(experiment, fleet);
    let text = refusal.to_string();
    assert_eq!(refusal.error.code, code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

fn step(plan: &Plan, index: usize) -> &FaultStep {
    plan.fault_steps().nth(index).unwrap().1
}

fn hosts(step: &FaultStep) -> Vec<&str> {
    step.injections.iter().map(|i| i.host.as_str()).collect()
}

fn file(steps: &str) -> Experiment {
    let head = "apiVersion: fracas/v1\nkind: Experiment\nname: x\n";
    parse_experiment(&format!("{head}{steps}"), "x.yaml", &BTreeMap::new()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn an_attack_becomes_a_plan_with_nothing_left_to_choose() {
    let plan = planned(&burn("role=web", None), &fleet());
    assert_eq!((plan.environment.as_str(), plan.seed), ("staging", 7));
    let step = step(&plan, 0);
    assert_eq!(hosts(step), ["web-1", "web-2", "web-3", "web-4"]);
    assert_eq!(
        (step.params.clone(), step.duration_ms, step.matched),
        (json!({ "percent": 60.0 }), 20_000, 4)
    );
    assert_eq!(step.reversal, Reversal::Full);
    assert_eq!(plan.hosts[0].boot_id, "boot-web-1");
    let seeds: BTreeSet<u64> = step.injections.iter().map(|i| i.seed).collect();
    assert_eq!(seeds.len(), 4);
}

#[test]
fn nobody_is_never_silent() {
    is_refused(
        &burn("role=wep", None),
        &fleet(),
        "no_targets",
        &["role=wep", "steps[0].on", "cache, web", "did you mean web?"],
    );
    is_refused(&burn("rolle=web", None), &fleet(), "no_targets", &["did you mean role?"]);
    is_refused(&burn("web-9", None), &fleet(), "no_targets", &["did you mean web-"]);
    is_refused(
        &wish("cpu.burn", &[], &["web-1", "web-9"], None),
        &fleet(),
        "no_targets",
        &["web-9"],
    );
    is_refused(
        &burn("role=web", Some("9")),
        &fleet(),
        "no_targets",
        &["only 4 hosts match", "1..4"],
    );
    is_refused(&burn("all", None), &Fleet::default(), "no_targets", &["no host is enrolled"]);
}

#[test]
fn pick_counts_and_says_how() {
    for (pick, count, note) in [
        ("2", 2, None),
        ("50%", 2, Some("50% of 4 hosts is 2")),
        ("70%", 2, Some("rounded down")),
        ("1%", 1, Some("least")),
    ] {
        let plan = planned(&burn("role=web", Some(pick)), &fleet());
        assert_eq!(step(&plan, 0).injections.len(), count, "{pick}");
        match note {
            Some(note) => assert!(plan.notes.iter().any(|n| n.contains(note)), "{pick}: {:?}", plan.notes),
            None => assert_eq!(plan.notes, Vec::<String>::new()),
        }
    }
}

#[test]
fn spread_takes_from_every_zone() {
    let text = "steps: [{fault: cpu.burn, params: {percent: 5}, duration: 5s, on: {labels: role=web, pick: 2, spread: zone, seed: SEED}}]";
    for seed in 0..20 {
        let plan = planned(&file(&text.replace("SEED", &seed.to_string())), &fleet());
        let fleet = fleet();
        let zones: BTreeSet<&String> = hosts(step(&plan, 0))
            .iter()
            .map(|n| &fleet.hosts.iter().find(|h| h.name.as_str() == *n).unwrap().labels["zone"])
            .collect();
        assert_eq!(zones.len(), 2, "seed {seed}");
    }
}

#[test]
fn the_seed_of_the_wish_comes_before_the_planners() {
    let mut experiment = burn("role=web", Some("1"));
    let picks = |experiment: &Experiment, seed| plan(experiment, &fleet(), &Policy::default(), seed).unwrap();
    let all: BTreeSet<String> = (0..40)
        .map(|seed| hosts(step(&picks(&experiment, seed), 0))[0].to_owned())
        .collect();
    assert_eq!(all.len(), 4, "the seed does not choose: {all:?}");
    experiment.seed = Some(3);
    assert_eq!(picks(&experiment, 1), picks(&experiment, 2));
    assert_eq!(picks(&experiment, 1).seed, 3);
}

#[test]
fn an_unfit_host_is_refused_by_name_or_passed_over() {
    for (code, spoil) in SPOILT {
        let mut fleet = fleet();
        spoil(fleet.hosts.iter_mut().find(|h| h.name == name("web-2")).unwrap());
        let everybody = Experiment {
            origin: Origin::Experiment,
            ..burn("role=web", None)
        };
        let refusal = refused(&everybody, &fleet);
        assert_eq!(
            (refusal.error.code.as_str(), refusal.error.problems[0].path.as_str()),
            ("unhealthy", "steps[0].on")
        );
        if code == "cordoned" {
            assert!(refusal.to_string().contains("next: `fracas hosts uncordon web-2`"), "{refusal}");
        }
        let named: Vec<(&str, &str)> = refusal.error.hosts.iter().map(|h| (h.name.as_str(), h.code.as_str())).collect();
        assert_eq!(named, [("web-2", code)]);
        let plan = planned(&burn("role=web", Some("3")), &fleet);
        assert_eq!(hosts(step(&plan, 0)), ["web-1", "web-3", "web-4"], "{code}");
        assert!(
            plan.notes.iter().any(|n| n.contains("web-2 is not a candidate")),
            "{:?}",
            plan.notes
        );
        is_refused(&burn("role=web", Some("4")), &fleet, "unhealthy", &["only 3 may be used", "web-2"]);
    }
    let mut removed = fleet();
    removed.hosts.iter_mut().find(|h| h.name == name("web-2")).unwrap().membership = Membership::Removed;
    assert_eq!(step(&planned(&burn("role=web", None), &removed), 0).matched, 3);
}

#[test]
fn an_attack_may_share_a_host_and_says_so() {
    let mut fleet = fleet();
    let busy = |fleet: &mut Fleet| fleet.hosts.iter_mut().find(|h| h.name == name("web-2")).unwrap().active_injections = 1;
    let alone = planned(&burn("role=web", None), &fleet);
    busy(&mut fleet);
    let shared = planned(&burn("role=web", None), &fleet);
    assert_eq!(hosts(step(&shared, 0)), hosts(step(&alone, 0)));
    assert!(
        shared.notes.iter().any(|n| n.contains("web-2 is already under an injection")),
        "{:?}",
        shared.notes
    );
    assert!(difference(&shared, &fleet).is_empty());
    let experiment = Plan {
        origin: Origin::Experiment,
        ..shared
    };
    assert!(difference(&experiment, &fleet).iter().any(|n| n.contains("web-2 is already under")));
    fleet.hosts.iter_mut().find(|h| h.name == name("web-2")).unwrap().availability = Availability::Cordoned;
    is_refused(&burn("role=web", None), &fleet, "unhealthy", &["web-2: is cordoned"]);
}

#[test]
fn a_plan_has_one_environment() {
    let mut fleet = fleet();
    fleet.hosts.push(host("shop", &[("role", "web")], "10.9.0.1"));
    is_refused(
        &burn("role=web", None),
        &fleet,
        "environment",
        &["production (shop)", "staging (web-1"],
    );
    let mut narrowed = burn("role=web", None);
    narrowed.environment = Some("staging".into());
    assert_eq!(hosts(step(&planned(&narrowed, &fleet), 0)).len(), 4);
    narrowed.environment = Some("qa".into());
    is_refused(&narrowed, &fleet, "environment", &["matches no host of qa"]);
    let mut named = burn("shop", None);
    named.environment = Some("staging".into());
    is_refused(&named, &fleet, "environment", &["shop", "is of production"]);
}

#[test]
fn production_needs_a_policy_and_a_guard_and_no_facts() {
    let mut fleet = fleet();
    fleet.hosts.push(host("shop", &[("role", "shop")], "10.9.0.1"));
    is_refused(
        &burn("role=shop", None),
        &fleet,
        "policy",
        &["does not open production", "[policy.production]"],
    );
    let open = Policy::from_toml("[policy.production]").unwrap();
    let refusal = plan(&burn("role=shop", None), &fleet, &open, 7).unwrap_err();
    assert!(refusal.to_string().contains("needs a guard"), "{refusal}");
    let mut guarded = AttackWish {
        fault: "cpu.burn".into(),
        params: vec![("percent".into(), "5".into())],
        on: vec!["role=shop".into()],
        duration: Some(Millis(8_000)),
        probes: vec!["tcp=10.0.0.1:80,within=100ms".into()],
        ..AttackWish::default()
    };
    let plan_of = |wish: &AttackWish| plan(&attack(wish.clone()).unwrap(), &fleet, &open, 7);
    let guards = plan_of(&guarded).unwrap().guards;
    assert_eq!(guards[0].name, "probe-1-guard");
    guarded.on = vec!["role=shop,fact.cpus=0".into()];
    assert_eq!(plan_of(&guarded).unwrap_err().error.code, "environment");
}

#[test]
fn unknown_faults_are_answered_with_the_nearest() {
    for (typed, meant) in [
        ("cpu.brun", "cpu.burn"),
        ("blackhole", "network.partition"),
        ("Packet_Loss", "network.partition"),
        ("burn", "cpu.burn"),
        ("stres", "cpu.burn"),
    ] {
        is_refused(
            &wish(typed, &[], &["role=web"], None),
            &fleet(),
            "unknown_fault",
            &["unknown fault", &format!("did you mean {meant}?")],
        );
    }
    is_refused(
        &wish("zzzzzz", &[], &["role=web"], None),
        &fleet(),
        "unknown_fault",
        &["cpu.burn, network.partition, process.kill"],
    );
}

#[test]
fn each_host_is_held_to_its_own_catalogue() {
    let mut fleet = fleet();
    let mut fewer = fleet::catalogue();
    fewer.0.retain(|k| k.kind.as_str() != "cpu.burn");
    let old = fleet.hosts.iter_mut().find(|h| h.name == name("web-3")).unwrap();
    old.catalogue_digest = fewer.digest();
    fleet.catalogues.insert(fewer.digest(), fewer.clone());
    is_refused(
        &burn("role=web", None),
        &fleet,
        "unknown_fault",
        &["web-3: its agent (version 0.1.0) does not offer cpu.burn"],
    );
    assert!(plan(&burn("web-1", None), &fleet, &Policy::default(), 7).is_ok());
    fleet.catalogues.remove(&fewer.digest());
    is_refused(&burn("role=web", None), &fleet, "unknown_fault", &["web-3"]);
}

#[test]
fn parameters_and_durations_are_checked_before_anything_happens() {
    let fleet = fleet();
    for (params, words) in [
        (vec!["percent=140"], vec!["steps[0].params.percent", "1..100"]),
        (vec![], vec!["steps[0].params.percent", "is required"]),
        (vec!["percent=1", "perzent=1"], vec!["did you mean percent?"]),
    ] {
        is_refused(&wish("cpu.burn", &params, &["role=web"], None), &fleet, "invalid_params", &words);
    }
    let located = file("steps:\n  - fault: cpu.burn\n    params: {percent: 140}\n    on: {hosts: [web-1]}\n    duration: 5s\n");
    is_refused(&located, &fleet, "invalid_params", &["6:23: steps[0].params.percent"]);
    let problem = &refused(&located, &fleet).error.problems[0];
    assert_eq!((problem.line, problem.column), (Some(6), Some(23)));
    let on = "on: {hosts: [web-1]}";
    is_refused(
        &file(&format!("steps: [{{fault: cpu.burn, params: {{percent: 4}}, {on}}}]")),
        &fleet,
        "invalid_params",
        &["needs a duration", "1s..12h"],
    );
    is_refused(
        &file(&format!(
            "steps: [{{fault: cpu.burn, params: {{percent: 4}}, {on}, duration: 13h}}]"
        )),
        &fleet,
        "invalid_params",
        &["13h"],
    );
    is_refused(
        &file(&format!("steps: [{{fault: process.kill, {on}, duration: 5s}}]")),
        &fleet,
        "invalid_params",
        &["takes no duration"],
    );
    let plan = planned(&wish("process.kill", &[], &["web-1"], None), &fleet);
    assert!(plan.notes[0].contains("cannot be undone"), "{:?}", plan.notes);
}

#[test]
fn peers_become_the_addresses_that_hosts_reported() {
    let cut = |to: &[&str]| {
        wish(
            "network.partition",
            &to.iter()
                .map(|t| ["to=", t].concat())
                .collect::<Vec<_>>()
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
            &["web-1"],
            None,
        )
    };
    let plan = planned(&cut(&["role=cache", "10.7.0.0/16", "db.example", "host:cache-1"]), &fleet());
    assert_eq!(
        step(&plan, 0).params,
        json!({ "to": ["10.0.0.5", "fd00::5", "10.7.0.0/16", "db.example"] })
    );
    assert!(
        plan.notes.iter().any(|n| n.contains("role=cache is cache-1 (10.0.0.5, fd00::5")),
        "{:?}",
        plan.notes
    );
    is_refused(
        &cut(&["role=cach"]),
        &fleet(),
        "peers",
        &["steps[0].params.to[0]", "no host of staging", "did you mean cache?"],
    );
    is_refused(&cut(&["host:cache-9"]), &fleet(), "peers", &["no host named cache-9"]);
    let mut twins = fleet();
    facts_of(&mut twins.hosts[0]).addresses.push("10.0.0.5".parse().unwrap());
    let who = twins.hosts[0].name.to_string();
    is_refused(
        &cut(&["role=cache"]),
        &twins,
        "peers",
        &["10.0.0.5 is claimed by two hosts", &who, "cache-1"],
    );
    let mut bare = fleet();
    bare.hosts.iter_mut().for_each(|h| facts_of(h).addresses.clear());
    is_refused(&cut(&["role=cache"]), &bare, "peers", &["cache-1 has reported no address"]);
}

#[test]
fn limits_hold_what_may_be_hit() {
    let steps = "steps: [{fault: cpu.burn, params: {percent: 4}, on: {labels: role=web, pick: 2}, duration: 1m}, {wait: 30s}]";
    for (limits, word) in [
        ("hosts: 1", "limits.hosts"),
        ("share: 49%", "limits.share"),
        ("keep_healthy: 3", "limits.keep_healthy"),
        ("duration: 89s", "limits.duration"),
    ] {
        is_refused(
            &file(&format!("limits: {{{limits}}}\n{steps}")),
            &fleet(),
            "limit",
            &[word, "(allowed: "],
        );
    }
    planned(
        &file(&format!(
            "limits: {{hosts: 2, share: 50%, keep_healthy: 2, duration: 90s}}\n{steps}"
        )),
        &fleet(),
    );
    let mut quorum = fleet();
    for host in quorum.hosts.iter_mut().filter(|h| h.labels["role"] == "web") {
        host.labels.insert("quorum".into(), "etcd/4".into());
    }
    planned(&burn("role=web", Some("1")), &quorum);
    is_refused(&burn("role=web", Some("2")), &quorum, "limit", &["quorum etcd/4"]);
}

#[test]
fn probers_are_hosts_of_the_environment_connected_or_not() {
    let text = "hypothesis:\n  probes: [{name: a, tcp: '10.0.0.1:80', from: role=cache}]\nsteps: [{fault: cpu.burn, params: {percent: 4}, on: {hosts: [web-1]}, duration: 5s}]";
    let mut fleet = fleet();
    fleet.hosts.iter_mut().find(|h| h.name == name("cache-1")).unwrap().connection = Connection::Lost;
    let probe = planned(&file(text), &fleet).hypothesis.unwrap().probes.remove(0);
    assert_eq!(probe.from, Prober::Hosts(vec![name("cache-1")]));
    is_refused(
        &file(&text.replace("role=cache", "role=none")),
        &fleet,
        "no_targets",
        &["hypothesis.probes[0].from"],
    );
}

#[test]
fn what_changed_since_is_told() {
    let plan = planned(&burn("role=web", None), &fleet());
    assert_eq!(difference(&plan, &fleet()), Vec::<String>::new());
    let mut later = fleet();
    let web = |fleet: &mut Fleet, n: &str| fleet.hosts.iter().position(|h| h.name == name(n)).unwrap();
    let one = web(&mut later, "web-1");
    facts_of(&mut later.hosts[one]).boot_id = "another".into();
    let (two, three, four) = (web(&mut later, "web-2"), web(&mut later, "web-3"), web(&mut later, "web-4"));
    later.hosts[two].catalogue_digest = "sha256:other".into();
    later.hosts[three].labels.insert("zone".into(), "z".into());
    later.hosts[four].availability = Availability::Cordoned;
    let words = difference(&plan, &later);
    for (word, line) in [
        "web-1 has booted again",
        "web-2 offers another",
        "web-3: label zone is \"z\", was \"a\"",
        "web-4 is cordoned",
    ]
    .iter()
    .zip(&words)
    {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert_eq!(words.len(), 4);
    later.hosts.clear();
    assert_eq!(difference(&plan, &later).len(), 4);
}
