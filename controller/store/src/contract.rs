//! What every store must keep, as one suite of checks: for tests of stores only. It panics at the first broken promise.

mod cadence;
mod compaction;
mod finished;
mod given;
mod hosts;
mod plans;
mod summaries;

use std::collections::BTreeMap;

use proto_model::event::FleetEventBody;
use proto_model::halt::HaltState;
use proto_model::id::{InjectionId, RunId, TokenId};
use proto_model::role::Role;
use proto_model::time::Timestamp;

use given::{Make, accepted, actor, is_refused, judged, seqs};
pub use given::{finished_run, notes};
pub(crate) use given::{note, undone};

use crate::records::{OperatorRecord, StoreError, TokenRecord};
use crate::secret::hash_secret;
use crate::store::Store;

/// Runs every check, each on a new, empty store.
pub fn run(make: impl Fn() -> Box<dyn Store>) {
    let checks: &[fn(Make<'_>)] = &[
        numbers_are_dense_and_order_is_kept,
        a_repeated_fact_is_stored_once,
        a_fact_of_another_run_or_host_is_another_fact,
        a_refused_append_leaves_nothing,
        a_run_is_judged_once,
        a_key_accepts_one_run,
        runs_are_listed_newest_first,
        a_run_is_found_by_id_prefix_and_last,
        an_ambiguous_prefix_lists_who_it_could_be,
        events_come_back_as_they_went_in,
        a_token_is_spent_as_often_as_it_says,
        a_token_gives_nothing_away,
        a_revoked_or_expired_token_buys_nothing,
        operators_tokens_are_kept_and_revoked_once,
        the_latch_only_moves_forward,
        the_fleet_log_answers_its_end,
        crate::contract_evidence::services_are_replaced_whole_and_logged,
        crate::contract_evidence::publications_are_only_added,
    ];
    for check in checks
        .iter()
        .chain(cadence::CHECKS)
        .chain(compaction::CHECKS)
        .chain(finished::CHECKS)
        .chain(hosts::CHECKS)
        .chain(plans::CHECKS)
        .chain(summaries::CHECKS)
    {
        check(&make);
    }
}

fn numbers_are_dense_and_order_is_kept(make: Make<'_>) {
    let (mut store, run) = (make(), RunId::generate());
    assert_eq!(seqs(&store.append(&run, notes(3, 5)).unwrap()), [1, 2, 3]);
    assert_eq!(store.append(&run, Vec::new()).unwrap(), []);
    assert_eq!(seqs(&store.append(&run, notes(2, 5)).unwrap()), [4, 5]);
    assert_eq!(seqs(&store.append(&RunId::generate(), notes(1, 5)).unwrap()), [1]);
    assert_eq!(seqs(&store.run_events(&run, 1).unwrap()), [1, 2, 3, 4, 5]);
    assert_eq!(seqs(&store.run_events(&run, 0).unwrap()), [1, 2, 3, 4, 5]);
    assert_eq!(seqs(&store.run_events(&run, 4).unwrap()), [4, 5]);
    assert_eq!(store.run_events(&run, u64::MAX).unwrap(), []);
    assert!(matches!(
        store.run_events(&RunId::generate(), 1),
        Err(StoreError::NotFound { what: "run", .. })
    ));
}

fn a_repeated_fact_is_stored_once(make: Make<'_>) {
    let (mut store, run, id) = (make(), RunId::generate(), InjectionId::generate());
    assert_eq!(seqs(&store.append(&run, vec![undone(&id, "boot-a", 1)]).unwrap()), [1]);
    assert_eq!(store.append(&run, vec![undone(&id, "boot-a", 1)]).unwrap(), []);
    let mixed = vec![
        undone(&id, "boot-a", 1),
        note("new"),
        undone(&id, "boot-a", 2),
        undone(&id, "boot-a", 2),
    ];
    assert_eq!(seqs(&store.append(&run, mixed).unwrap()), [2, 3]);
    let other = InjectionId::generate();
    let different = vec![
        undone(&id, "boot-b", 1),
        undone(&other, "boot-a", 1),
        undone(&id, "boot-a", u64::MAX),
    ];
    assert_eq!(seqs(&store.append(&run, different).unwrap()), [4, 5, 6]);
    assert_eq!(store.run_events(&run, 1).unwrap().len(), 6);
}

fn a_fact_of_another_run_or_host_is_another_fact(make: Make<'_>) {
    let (mut store, run, other, id) = (make(), RunId::generate(), RunId::generate(), InjectionId::generate());
    // A host that guesses the id and the number of a fact does not keep the true one out.
    let mut forged = undone(&id, "boot-a", 1);
    forged.by = "mallory".into();
    assert_eq!(seqs(&store.append(&other, vec![forged.clone()]).unwrap()), [1]);
    assert_eq!(seqs(&store.append(&run, vec![forged, undone(&id, "boot-a", 1)]).unwrap()), [1, 2]);
    assert_eq!(store.append(&run, vec![undone(&id, "boot-a", 1)]).unwrap(), []);
}

fn a_refused_append_leaves_nothing(make: Make<'_>) {
    let (mut store, run, id) = (make(), RunId::generate(), InjectionId::generate());
    store.append(&run, vec![note("first"), judged()]).unwrap();
    is_refused(store.append(&run, vec![undone(&id, "boot", 1), note("half"), judged()]), "final");
    assert_eq!(store.run_events(&run, 1).unwrap().len(), 2);
    assert_eq!(seqs(&store.append(&run, vec![undone(&id, "boot", 1)]).unwrap()), [3]);
}

fn a_run_is_judged_once(make: Make<'_>) {
    let (mut store, run) = (make(), RunId::generate());
    store.append(&run, vec![accepted("one", None)]).unwrap();
    assert!(!store.runs(10, true).unwrap()[0].finished);
    store.append(&run, vec![judged()]).unwrap();
    assert_eq!(store.runs(10, true).unwrap(), []);
    assert!(store.runs(10, false).unwrap()[0].finished);
    is_refused(store.append(&run, vec![judged()]), "final");
    store.append(&run, vec![note("a proof that came later")]).unwrap();
}

fn a_key_accepts_one_run(make: Make<'_>) {
    let (mut store, run, second) = (make(), RunId::generate(), RunId::generate());
    assert_eq!(store.run_by_key("deploy-7").unwrap(), None);
    store.append(&run, vec![accepted("one", Some("deploy-7"))]).unwrap();
    assert_eq!(store.run_by_key("deploy-7").unwrap(), Some(run.clone()));
    is_refused(store.append(&second, vec![accepted("two", Some("deploy-7"))]), run.as_str());
    assert!(store.run_events(&second, 1).is_err());
    store.append(&second, vec![accepted("two", None)]).unwrap();
    store.append(&RunId::generate(), vec![accepted("three", None)]).unwrap();
}

fn runs_are_listed_newest_first(make: Make<'_>) {
    let mut store = make();
    assert_eq!(store.runs(10, false).unwrap(), []);
    let ids: Vec<RunId> = (0..4).map(|_| RunId::generate()).collect();
    for (i, id) in ids.iter().enumerate() {
        store.append(id, vec![accepted(&format!("run-{i}"), None)]).unwrap();
    }
    store.append(&ids[0], vec![note("late")]).unwrap();
    store.append(&ids[3], vec![judged()]).unwrap();
    let names = |rows: Vec<crate::RunRow>| rows.into_iter().map(|r| r.name).collect::<Vec<_>>();
    assert_eq!(names(store.runs(2, false).unwrap()), ["run-3", "run-2"]);
    assert_eq!(names(store.runs(2, true).unwrap()), ["run-2", "run-1"]);
    assert_eq!(store.runs(0, false).unwrap(), []);
    assert_eq!(store.runs(1, false).unwrap()[0].created_at, Timestamp(1_700_000_000_000));
}

fn a_run_is_found_by_id_prefix_and_last(make: Make<'_>) {
    let mut store = make();
    assert!(matches!(store.find_run("@last"), Err(StoreError::NotFound { .. })));
    let (first, last) = (RunId::generate(), RunId::generate());
    store.append(&first, notes(1, 1)).unwrap();
    store.append(&last, notes(1, 1)).unwrap();
    assert_eq!(store.find_run("@last").unwrap(), last);
    assert_eq!(store.find_run(first.as_str()).unwrap(), first);
    assert_eq!(store.find_run(&first.as_str()[..6]).unwrap(), first);
    is_refused(store.find_run(&first.as_str()[..5]), "at least 6");
    is_refused(store.find_run(""), "at least 6");
    for nobody in ["iiiiii", "%%%%%%", "______", &"0".repeat(40), "é€é€é€"] {
        assert!(matches!(store.find_run(nobody), Err(StoreError::NotFound { .. })), "{nobody}");
    }
}

fn an_ambiguous_prefix_lists_who_it_could_be(make: Make<'_>) {
    let mut store = make();
    let ids = ["aaaaaaaa00000000", "aaaaaaaa11111111", "aaaaaab000000000"].map(|text| RunId::parse(text).unwrap());
    for id in &ids {
        store.append(id, notes(1, 1)).unwrap();
    }
    match store.find_run("aaaaaaa") {
        Err(StoreError::Ambiguous { mut candidates, name }) => {
            candidates.sort();
            assert_eq!(
                (name.as_str(), candidates),
                ("aaaaaaa", vec![ids[0].to_string(), ids[1].to_string()])
            );
        }
        other => panic!("expected two candidates, got {other:?}"),
    }
    assert_eq!(store.find_run("aaaaaab").unwrap(), ids[2]);
}

fn events_come_back_as_they_went_in(make: Make<'_>) {
    let (mut store, run, id) = (make(), RunId::generate(), InjectionId::generate());
    let stored = store
        .append(
            &run,
            vec![
                accepted("one", Some("k")),
                undone(&id, "boot", 9),
                note("ünï\u{0}code 'quoted'"),
                judged(),
            ],
        )
        .unwrap();
    let read = store.run_events(&run, 1).unwrap();
    assert_eq!(read, stored);
    assert!(
        read.iter()
            .all(|e| e.run_id == run && e.by == "root@local" && e.version == proto_model::event::SCHEMA_VERSION)
    );
    assert_eq!(read[1].source.as_ref().map(|s| (s.boot_ms, s.agent_seq)), Some((77, 9)));
}

fn a_token(secret: &str, uses: u32) -> TokenRecord {
    TokenRecord {
        id: TokenId::generate(),
        secret_hash: hash_secret(secret),
        labels: BTreeMap::from([("env".into(), "staging".into())]),
        uses,
        used: 0,
        created_at: Timestamp(1),
        expires_at: Timestamp(1_000),
        revoked: false,
        created_by: "root@local".into(),
        replaces: None,
    }
}

fn a_token_is_spent_as_often_as_it_says(make: Make<'_>) {
    let mut store = make();
    let token = a_token("right", 2);
    store.add_token(&token, &actor()).unwrap();
    is_refused(store.add_token(&token, &actor()), "taken");
    for used in 1..=2 {
        let spent = store.spend_token(&token.id, "right", Timestamp(999)).unwrap();
        assert_eq!(spent, TokenRecord { used, ..token.clone() });
    }
    is_refused(store.spend_token(&token.id, "right", Timestamp(999)), "no uses left");
    assert_eq!(store.tokens().unwrap()[0].used, 2);
    let log = store.fleet_events(10).unwrap();
    assert!(matches!(&log[0].body, FleetEventBody::TokenCreated { uses: 2, .. }));
    assert_eq!(log.len(), 1);
}

fn a_token_gives_nothing_away(make: Make<'_>) {
    let mut store = make();
    let token = a_token("right", 1);
    store.add_token(&token, &actor()).unwrap();
    for (id, secret) in [
        (token.id.clone(), "wrong"),
        (token.id.clone(), ""),
        (token.id.clone(), token.secret_hash.as_str()),
        (TokenId::generate(), "right"),
        (TokenId::generate(), ""),
    ] {
        is_refused(store.spend_token(&id, secret, Timestamp(2_000)), "not valid");
    }
    assert_eq!(store.tokens().unwrap(), std::slice::from_ref(&token));
    assert!(store.spend_token(&token.id, "right", Timestamp(1)).is_ok());
}

fn a_revoked_or_expired_token_buys_nothing(make: Make<'_>) {
    let mut store = make();
    let (first, second) = (a_token("a", 5), a_token("b", 5));
    store.add_token(&first, &actor()).unwrap();
    store.add_token(&second, &actor()).unwrap();
    is_refused(store.spend_token(&first.id, "a", Timestamp(1_000)), "expired");
    for _ in 0..2 {
        assert!(store.revoke_token(&second.id, &actor(), Timestamp(5)).unwrap().revoked);
    }
    is_refused(store.spend_token(&second.id, "b", Timestamp(5)), "revoked");
    let ids: Vec<TokenId> = store.tokens().unwrap().into_iter().map(|t| t.id).collect();
    assert_eq!(ids, [first.id, second.id]);
    assert_eq!(store.fleet_events(10).unwrap().len(), 3);
    let nobody = store.revoke_token(&TokenId::generate(), &actor(), Timestamp(5));
    assert!(matches!(nobody, Err(StoreError::NotFound { what: "token", .. })));
}

fn operators_tokens_are_kept_and_revoked_once(make: Make<'_>) {
    let mut store = make();
    let ann = OperatorRecord {
        id: TokenId::generate(),
        name: "ann".into(),
        role: Role::Operator,
        secret_hash: hash_secret("a"),
        created_at: Timestamp(1),
        expires_at: Timestamp(1_000),
        revoked: false,
        created_by: "root@local".into(),
        last_used: None,
    };
    store.add_operator(&ann, &actor()).unwrap();
    is_refused(store.add_operator(&ann, &actor()), "taken");
    store.operator_used(&ann.id, Timestamp(7)).unwrap();
    store.operator_used(&TokenId::generate(), Timestamp(8)).unwrap();
    let used = OperatorRecord {
        last_used: Some(Timestamp(7)),
        ..ann.clone()
    };
    assert_eq!(store.operators().unwrap(), [used]);
    for _ in 0..2 {
        assert!(store.revoke_operator(&ann.id, &actor(), Timestamp(9)).unwrap().revoked);
    }
    let nobody = store.revoke_operator(&TokenId::generate(), &actor(), Timestamp(9));
    assert!(matches!(nobody, Err(StoreError::NotFound { .. })));
    let log = store.fleet_events(10).unwrap();
    assert!(matches!(&log[0].body, FleetEventBody::OperatorCreated { role: Role::Operator, .. }));
    assert!(matches!(&log[1].body, FleetEventBody::OperatorRevoked { name, .. } if name == "ann"));
    assert_eq!(log.len(), 2, "a revocation is logged once");
}

fn the_latch_only_moves_forward(make: Make<'_>) {
    let mut store = make();
    let before = store.halt().unwrap();
    assert_eq!(before, HaltState::released());
    let engaged = before.engage("root@local", "smoke", Timestamp(7));
    store.set_halt(&engaged, &actor()).unwrap();
    store.set_halt(&engaged, &actor()).unwrap();
    assert_eq!(store.halt().unwrap(), engaged);
    let released = engaged.release("root@local", "over", Timestamp(8));
    store.set_halt(&released, &actor()).unwrap();
    is_refused(store.set_halt(&engaged, &actor()), "not newer");
    is_refused(store.set_halt(&before.engage("eve", "again", Timestamp(9)), &actor()), "not newer");
    assert_eq!(store.halt().unwrap(), released);
    let log = store.fleet_events(10).unwrap();
    let epochs: Vec<u64> = log
        .iter()
        .filter_map(|e| match &e.body {
            FleetEventBody::HaltChanged { epoch, .. } => Some(*epoch),
            _ => None,
        })
        .collect();
    assert_eq!(epochs, [1, 2]);
}

fn the_fleet_log_answers_its_end(make: Make<'_>) {
    let mut store = make();
    assert!(store.epoch().unwrap() >= 1);
    assert_eq!(store.fleet_events(5).unwrap(), []);
    for version in ["1", "2", "3"] {
        let event = FleetEventBody::ControllerStarted { version: version.into() };
        store.fleet(event, &actor(), Timestamp(1)).unwrap();
    }
    let seqs: Vec<u64> = store.fleet_events(2).unwrap().iter().map(|e| e.seq).collect();
    assert_eq!(seqs, [2, 3]);
    assert_eq!(store.fleet_events(0).unwrap(), []);
}
