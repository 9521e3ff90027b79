//! What has no way back: it ends as spent and never as undone, whatever ended it, and says what it did; nothing of ours is left.

use agent_warden::{Command, HaltAnswer, Policy};
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, Cleanliness, EndedBy, InjectionState, UndoAnswer};
use serde_json::json;

use crate::support::Bench;

fn bench() -> Bench {
    let policy = Policy::parse("[faults]\nallow = [\"test.*\"]\n", std::path::Path::new("agent.toml")).unwrap();
    Bench::with_policy(policy)
}

fn begin(bench: &mut Bench, kind: &str) -> InjectionId {
    let order = bench.order(kind, json!({}));
    let id = order.injection.clone();
    bench.start(order);
    id
}

/// What ended it, and what it said that it had done.
fn spent(bench: &Bench, id: &InjectionId) -> (EndedBy, Vec<String>) {
    let facts = bench.facts(id);
    assert!(!facts.iter().any(|fact| matches!(fact, AgentFact::Undone(_))), "{facts:?}");
    let ended_by = facts.iter().find_map(|fact| match fact {
        AgentFact::Ending(ending) => Some(ending.ended_by),
        _ => None,
    });
    match facts.last() {
        Some(AgentFact::Spent(spent)) => (ended_by.expect("an ending is told before the end"), spent.consequences.clone()),
        other => panic!("not spent: {other:?}"),
    }
}

#[test]
fn every_end_is_spent_and_what_can_be_put_right_is() {
    let came_off = vec!["the knob came off".to_owned()];
    let mut bench = bench();
    let id = begin(&mut bench, "test.final");
    assert_eq!(bench.host.knob_now(), "wild");
    assert_eq!(bench.stop(&id), Some(Ok(UndoAnswer::Spent)));
    assert_eq!(spent(&bench, &id), (EndedBy::Stop, came_off.clone()));
    assert_eq!(bench.host.knob_now(), "calm");
    assert_eq!(bench.stop(&id), Some(Ok(UndoAnswer::Spent)), "asked again");

    let id = begin(&mut bench, "test.final");
    bench.pass(5_000);
    assert_eq!(spent(&bench, &id), (EndedBy::LeaseLost, came_off.clone()));

    let id = begin(&mut bench, "test.final");
    assert_eq!(bench.halt(1), Some(HaltAnswer::default()), "what is spent is not counted as undone");
    assert_eq!(spent(&bench, &id), (EndedBy::Halt, came_off.clone()));
    let proof = bench.verify(std::slice::from_ref(&id));
    assert_eq!((proof.result, proof.consequences), (Cleanliness::Clean, came_off));
}

#[test]
fn a_deed_that_failed_before_it_was_declared_has_changed_nothing() {
    let mut bench = bench();
    let id = begin(&mut bench, "test.final_fail");
    assert_eq!(bench.undone(&id).ended_by, EndedBy::ApplyFailed);
    assert!(bench.verify(&[id]).consequences.is_empty());
}

#[test]
fn a_crash_leaves_it_spent_and_it_is_told_after_the_next_start() {
    let mut bench = bench();
    let id = begin(&mut bench, "test.final");
    let mut bench = bench.crash();
    assert_eq!(bench.host.knob_now(), "calm");
    let told = bench.unsettled();
    assert!(
        told.iter()
            .any(|r| r.injection == id && matches!(&r.fact, AgentFact::Spent(s) if s.consequences == ["the knob came off"])),
        "{told:?}"
    );
    let (sender, receiver) = std::sync::mpsc::channel();
    bench
        .warden
        .command(Command::Inventory(Box::new(move |items| sender.send(items).unwrap())));
    let items = receiver.recv().unwrap();
    assert_eq!((items[0].state, items[0].finished), (InjectionState::Spent, true));
}

#[test]
fn a_kind_that_acts_again_does_so_until_its_time_is_over_or_it_cannot() {
    let mut bench = bench();
    let mut order = bench.order("test.again", json!({}));
    let id = order.injection.clone();
    // No duration: as long as the kind says.
    order.wish.duration_ms = 0;
    bench.start(order);
    bench.pass(2_400);
    assert!(matches!(bench.facts(&id).last(), Some(AgentFact::Applied(_))));
    bench.pass(200);
    let rounds = ["round 1", "round 2", "round 3"].map(str::to_owned).to_vec();
    assert_eq!(spent(&bench, &id), (EndedBy::DurationElapsed, rounds.clone()));

    let id = begin(&mut bench, "test.again");
    bench.pass_renewing(&id, 4_000);
    assert_eq!(spent(&bench, &id), (EndedBy::EndedEarly, rounds));
}

#[test]
fn a_stop_ends_the_rounds() {
    let mut bench = bench();
    let id = begin(&mut bench, "test.again");
    bench.pass(1_500);
    bench.stop(&id);
    let told = spent(&bench, &id);
    bench.pass(3_000);
    assert_eq!(told.1.len(), 2);
    assert_eq!(spent(&bench, &id), told, "nothing is done after the end");
}

#[test]
fn nobody_watching_is_refused_by_the_host() {
    let mut bench = bench();
    let mut order = bench.order("test.final", json!({}));
    order.wish.unattended = true;
    let refusal = bench.refused(order);
    assert!(refusal.message.contains("irreversible_unattended"), "{refusal}");
    let mut order = bench.order("test.hold", json!({}));
    let id = order.injection.clone();
    order.wish.unattended = true;
    bench.start(order);
    assert!(
        matches!(bench.facts(&id).last(), Some(AgentFact::Applied(_))),
        "what can be undone may start"
    );
}
