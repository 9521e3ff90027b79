//! Who may start, asked in order; a refusal touches nothing.

use std::path::Path;
use std::sync::atomic::Ordering;

use crate::support::Bench;
use agent_warden::{Command, Policy};
use proto_model::injection::{AgentFact, Wish};
use serde_json::json;

#[test]
fn each_gate_is_asked_before_the_next() {
    // An order with everything wrong: each time the first gate is mended, the next one answers.
    let policy = Policy::parse("[faults]\ndeny = [\"test.deny\"]\n", Path::new("agent.toml")).unwrap();
    let mut bench = Bench::with_policy(policy);
    let dirty = bench.hold();
    bench.host.fail_writes(u32::MAX);
    bench.stop(&dirty);
    bench.pass(11_000);
    bench.guarded.store(false, Ordering::Relaxed);
    bench.halt(1);
    let expect = |bench: &mut Bench, kind: &str, params, code: &str| {
        let refusal = bench.refused(bench.order(kind, params));
        assert_eq!(refusal.code, code, "{refusal}");
        refusal
    };
    assert!(
        expect(&mut bench, "test.unknown", json!({"amount": 99}), "halted")
            .message
            .contains("fire")
    );
    bench.warden.command(Command::Release { epoch: 2 });
    expect(&mut bench, "test.unknown", json!({"amount": 99}), "unguarded");
    bench.guarded.store(true, Ordering::Relaxed);
    assert!(
        expect(&mut bench, "test.unknown", json!({"amount": 99}), "dirty")
            .message
            .contains("told to fail")
    );
    bench.host.fail_writes(0);
    bench.pass(6_000);
    let unknown = expect(&mut bench, "test.holt", json!({"amount": 99}), "unknown_fault");
    assert!(unknown.message.contains("test.hold"), "{unknown}");
    let range = expect(&mut bench, "test.deny", json!({"amount": 99}), "invalid_params");
    assert_eq!((range.path.as_str(), range.allowed.as_deref()), ("params.amount", Some("0..10")));
    assert!(expect(&mut bench, "test.deny", json!({}), "policy").message.contains("faults.deny"));
    assert_eq!(bench.host.knob_now(), "calm");
}

#[test]
fn a_conflict_names_the_other_and_ends_with_it() {
    let mut bench = Bench::new();
    let first = bench.hold();
    let refusal = bench.refused(bench.order("test.hold", json!({})));
    assert_eq!(refusal.code, "conflict");
    assert!(refusal.message.contains(first.as_str()), "{refusal}");
    bench.stop(&first);
    bench.hold();
}

#[test]
fn the_kinds_own_no_comes_last() {
    let mut bench = Bench::new();
    assert_eq!(bench.refused(bench.order("test.deny", json!({}))).code, "no_match");
}

#[test]
fn irreversible_kinds_need_their_name_in_the_policy() {
    let mut bench = Bench::new();
    assert_eq!(bench.refused(bench.order("test.final", json!({}))).code, "policy");
}

#[test]
fn times_out_of_range_are_refused_with_the_range() {
    let mut bench = Bench::new();
    let mut order = bench.order("test.hold", json!({}));
    order.wish.duration_ms = 24 * 3_600_000;
    assert_eq!(bench.refused(order).allowed.as_deref(), Some("1s..15m"));
    let mut order = bench.order("test.hold", json!({}));
    order.lease_ms = 0;
    assert_eq!(bench.refused(order).code, "invalid_lease");
}

#[test]
fn an_id_is_applied_at_most_once() {
    let mut bench = Bench::new();
    let order = bench.order("test.hold", json!({}));
    bench.start(order.clone());
    bench.start(order.clone());
    assert_eq!(
        bench
            .facts(&order.injection)
            .iter()
            .filter(|f| matches!(f, AgentFact::Applied(_)))
            .count(),
        2,
        "told twice"
    );
    assert_eq!(bench.reports[0], bench.reports[1], "the very same report, number included");
    bench.stop(&order.injection);
    bench.start(order.clone());
    assert_eq!(bench.host.knob_now(), "calm", "an ended id starts nothing");
    bench.warden.command(Command::Settle(vec![order.injection.clone()]));
    bench.start(order.clone());
    assert_eq!(bench.host.knob_now(), "calm", "a settled id starts nothing");
    let refused = bench.order("test.deny", json!({}));
    assert_eq!(bench.refused(refused.clone()), bench.refused(refused));
}

#[test]
fn preflight_answers_as_a_start_would_and_changes_nothing() {
    let mut bench = Bench::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let wishes = ["test.hold", "test.deny"].map(|kind| Wish {
        fault: proto_model::catalogue::FaultKind::parse(kind).unwrap(),
        params: json!({}),
        duration_ms: 5_000,
        seed: 0,
        beside: vec![],
        unattended: false,
    });
    bench
        .warden
        .command(Command::Preflight(wishes.to_vec(), Box::new(move |a| sender.send(a).unwrap())));
    let answers = receiver.recv().unwrap();
    assert!(answers[0].accepted && answers[0].undo == ["turning the knob back"]);
    assert_eq!(answers[1].refusals[0].code, "no_match");
    assert_eq!((bench.host.knob_now().as_str(), bench.reports.len()), ("calm", 0));
}

#[test]
fn preflight_holds_wishes_that_act_together_against_each_other() {
    let mut bench = Bench::new();
    let hold = |beside: &[usize]| Wish {
        fault: proto_model::catalogue::FaultKind::parse("test.hold").unwrap(),
        params: json!({}),
        duration_ms: 5_000,
        seed: 0,
        unattended: false,
        beside: beside.to_vec(),
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    // One after the other is fine; the third acts beside the first; a place that is not there means nothing.
    let wishes = vec![hold(&[]), hold(&[]), hold(&[0]), hold(&[9])];
    bench
        .warden
        .command(Command::Preflight(wishes, Box::new(move |a| sender.send(a).unwrap())));
    let answers = receiver.recv().unwrap();
    let accepted: Vec<bool> = answers.iter().map(|answer| answer.accepted).collect();
    assert_eq!(accepted, [true, true, false, true]);
    let refusal = &answers[2].refusals[0];
    assert!(
        refusal.code == "conflict" && refusal.message.contains("the knob of test.hold"),
        "{refusal}"
    );
    assert_eq!(bench.host.knob_now(), "calm");
}

#[test]
fn a_halt_by_hand_is_seen_without_being_told() {
    let mut bench = Bench::new();
    let id = bench.hold();
    agent_warden::engage_host_file(&agent_warden::host_latch(bench.dir.path()), "smoke").unwrap();
    bench.pass(1_200);
    assert_eq!(bench.undone(&id).ended_by, proto_model::injection::EndedBy::LocalHalt);
    assert!(bench.refused(bench.order("test.hold", json!({}))).message.contains("smoke"));
    agent_warden::release_host_file(&agent_warden::host_latch(bench.dir.path())).unwrap();
    bench.hold();
}

#[test]
fn a_preflight_knows_that_no_journal_can_be_written() {
    let mut bench = Bench::new();
    let wish = bench.order("test.hold", json!({})).wish;
    assert!(bench.preflight(wish.clone()).accepted);
    let journals = bench.dir.path().join("journal");
    std::fs::remove_dir_all(&journals).unwrap();
    std::fs::write(&journals, "in its place").unwrap();
    let answer = bench.preflight(wish);
    assert_eq!(
        (answer.accepted, answer.refusals[0].code.as_str()),
        (false, "journal"),
        "{answer:?}"
    );
}
