//! Every way in which an injection ends, and what is told of it; each leaves the knob as it was.

use crate::support::{Bench, KNOB, REDIS};
use agent_levers::fake::FakeHost;
use agent_view::{HostView, ProcessState};
use agent_warden::{Command, HaltAnswer, WardenError};
use proto_model::injection::{AgentFact, Cleanliness, EffectState, EndedBy, InjectionState, UndoAnswer};
use serde_json::json;

#[test]
fn a_duration_that_is_over_ends_it() {
    let mut bench = Bench::new();
    let id = bench.hold();
    assert_eq!(bench.host.knob_now(), "wild");
    bench.pass_renewing(&id, 59_000);
    assert_eq!(bench.host.knob_now(), "wild");
    bench.pass_renewing(&id, 1_000);
    assert_eq!(
        (bench.undone(&id).ended_by, bench.host.knob_now().as_str()),
        (EndedBy::DurationElapsed, "calm")
    );
}

#[test]
fn a_lease_that_is_not_renewed_ends_it() {
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.pass(4_900);
    assert_eq!(bench.host.knob_now(), "wild");
    bench.pass(100);
    assert_eq!(
        (bench.undone(&id).ended_by, bench.host.knob_now().as_str()),
        (EndedBy::LeaseLost, "calm")
    );
}

#[test]
fn a_lapsed_lease_is_not_revived() {
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.host.advance(5_000);
    bench.warden.command(Command::Renew(vec![id.clone()], 5_000));
    bench.pass(100);
    assert_eq!(bench.undone(&id).ended_by, EndedBy::LeaseLost);
}

#[test]
fn what_the_kernel_holds_is_renewed_with_the_lease_and_never_beyond_the_duration() {
    let mut bench = Bench::new();
    let mut order = bench.order("test.gated", json!({}));
    order.wish.duration_ms = 8_000;
    let id = order.injection.clone();
    bench.start(order);
    assert_eq!(bench.host.gate_ms(), Some(5_250));
    bench.pass(4_000);
    bench.warden.command(Command::Renew(vec![id], 5_000));
    assert_eq!(bench.host.gate_ms(), Some(4_250));
}

#[test]
fn stop_has_three_answers() {
    let mut bench = Bench::new();
    let id = bench.hold();
    assert_eq!(bench.stop(&id), Some(Ok(UndoAnswer::UndoneNow)));
    assert_eq!(bench.host.knob_now(), "calm");
    assert_eq!(bench.stop(&id), Some(Ok(UndoAnswer::AlreadyUndone)));
    let stranger = bench.order("test.hold", json!({}));
    assert_eq!(bench.stop(&stranger.injection), Some(Ok(UndoAnswer::UnknownId)));
    bench.start(stranger);
    assert_eq!(bench.host.knob_now(), "calm", "an order that arrives after its stop starts nothing");
}

#[test]
fn a_stop_is_answered_once_the_effect_is_gone() {
    for failing in [0, 1] {
        let mut bench = Bench::new();
        let id = bench.hold();
        bench.host.fail_writes(failing);
        let (sender, answers) = std::sync::mpsc::channel();
        let host = FakeHost::clone(&bench.host);
        bench.warden.command(Command::Stop(
            id,
            EndedBy::Stop,
            Box::new(move |answer| sender.send((answer, host.knob(KNOB).unwrap())).unwrap()),
        ));
        if failing > 0 {
            assert!(answers.try_recv().is_err(), "nothing is undone yet");
        }
        bench.pass(6_000);
        assert_eq!(answers.try_recv().unwrap(), (Ok(UndoAnswer::UndoneNow), Some("calm".to_owned())));
    }
}

#[test]
fn what_it_started_is_gone_so_it_ends_early() {
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.host.turn_knob("gone");
    bench.pass(1_100);
    let undone = bench.undone(&id);
    assert_eq!(undone.ended_by, EndedBy::EndedEarly);
    assert!(!undone.drift.is_empty(), "the knob was somebody else's by then");
    assert!(
        bench
            .facts(&id)
            .iter()
            .any(|f| matches!(f, AgentFact::Ending(e) if e.reason.as_deref() == Some("the knob is gone")))
    );
}

#[test]
fn a_panic_and_a_failure_half_way_are_undone() {
    for (kind, words) in [("test.panic", "on purpose"), ("test.fail", "half way")] {
        let mut bench = Bench::new();
        let order = bench.order(kind, json!({}));
        let id = order.injection.clone();
        bench.start(order);
        assert_eq!(
            (bench.undone(&id).ended_by, bench.host.knob_now().as_str()),
            (EndedBy::ApplyFailed, "calm")
        );
        let reasons = bench.facts(&id).into_iter().find_map(|f| match f {
            AgentFact::Ending(ending) => ending.reason,
            _ => None,
        });
        assert!(reasons.unwrap().contains(words));
        assert!(!bench.facts(&id).iter().any(|f| matches!(f, AgentFact::Applied(_))));
        bench.hold();
    }
}

#[test]
fn an_undo_that_fails_once_is_tried_again_and_only_then_answered() {
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.host.fail_writes(1);
    assert_eq!(bench.stop(&id), None, "not before the effect is gone");
    assert_eq!(bench.status().active[0].state, InjectionState::UndoFailed);
    bench.pass(200);
    assert_eq!(
        (bench.undone(&id).ended_by, bench.host.knob_now().as_str()),
        (EndedBy::Stop, "calm")
    );
    assert!(bench.undone(&id).undo_ms >= 100);
    assert!(
        bench
            .facts(&id)
            .iter()
            .any(|f| matches!(f, AgentFact::UndoFailed(u) if u.attempt == 1))
    );
}

#[test]
fn an_undo_that_keeps_failing_makes_the_host_dirty_until_it_succeeds() {
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.host.fail_writes(u32::MAX);
    bench.stop(&id);
    bench.pass(9_000);
    assert_eq!(bench.status().cleanliness, Cleanliness::Faulted);
    bench.pass(6_000);
    assert_eq!(bench.status().cleanliness, Cleanliness::Dirty);
    assert!(matches!(bench.stop(&id), Some(Err(WardenError::UndoFailed(_)))));
    assert_eq!(bench.halt(1), Some(HaltAnswer { undone: 0, failed: 1 }));
    bench.host.fail_writes(0);
    bench.pass(5_100);
    assert_eq!(bench.host.knob_now(), "calm");
    assert_eq!(bench.status().cleanliness, Cleanliness::Clean);
    assert_eq!(bench.undone(&id).ended_by, EndedBy::Stop);
}

#[test]
fn a_person_may_answer_for_a_dirty_host() {
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.host.fail_writes(u32::MAX);
    bench.stop(&id);
    bench.pass(16_000);
    bench.warden.command(Command::Accept {
        by: "ann".into(),
        reason: "replaced the disk".into(),
    });
    bench.pass(100);
    assert_eq!(bench.undone(&id).undone_by, "accepted by ann: replaced the disk");
    assert_eq!(bench.status().cleanliness, Cleanliness::Clean);
}

#[test]
fn a_halt_undoes_everything_and_outlasts_the_process() {
    let mut bench = Bench::new();
    let ids = [bench.hold(), {
        let order = bench.order("test.gated", json!({}));
        let id = order.injection.clone();
        bench.start(order);
        id
    }];
    assert_eq!(bench.halt(7), Some(HaltAnswer { undone: 2, failed: 0 }));
    assert!(ids.iter().all(|id| bench.undone(id).ended_by == EndedBy::Halt));
    let mut bench = bench.crash();
    assert_eq!(bench.refused(bench.order("test.hold", json!({}))).code, "halted");
    bench.warden.command(Command::Release { epoch: 6 });
    assert_eq!(bench.refused(bench.order("test.hold", json!({}))).code, "halted");
    bench.warden.command(Command::Release { epoch: 8 });
    bench.hold();
}

#[test]
fn an_older_halt_is_obeyed_too_until_a_newer_release() {
    let mut bench = Bench::new();
    bench.warden.command(Command::Release { epoch: 8 });
    let id = bench.hold();
    assert_eq!(bench.halt(3), Some(HaltAnswer { undone: 1, failed: 0 }));
    assert_eq!(bench.undone(&id).ended_by, EndedBy::Halt);
    assert_eq!(bench.refused(bench.order("test.hold", json!({}))).code, "halted");
    bench.warden.command(Command::Release { epoch: 9 });
    bench.hold();
}

#[test]
fn what_cannot_be_opened_is_never_called_undone() {
    let mut bench = Bench::new();
    let id = bench.hold();
    for folder in ["journal", "mirror"] {
        for file in std::fs::read_dir(bench.dir.path().join(folder)).unwrap() {
            std::fs::write(file.unwrap().path(), b"no journal at all").unwrap();
        }
    }
    let mut bench = bench.crash();
    assert!(
        matches!(bench.stop(&id), Some(Err(WardenError::UndoFailed(_)))),
        "{:?}",
        bench.stop(&id)
    );
    assert_eq!(bench.halt(1), Some(HaltAnswer { undone: 0, failed: 1 }));
    assert_eq!(bench.status().cleanliness, Cleanliness::Dirty);
}

#[test]
fn a_new_process_undoes_what_the_last_one_left_and_tells_it_under_new_numbers() {
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.pass_renewing(&id, 20_000);
    let observed = bench.reports.iter().map(|r| r.agent_seq).max().unwrap();
    let mut bench = bench.crash();
    assert_eq!(bench.host.knob_now(), "calm");
    let told = bench.unsettled();
    let end = told.iter().find(|r| r.fact.is_terminal()).unwrap();
    assert!(end.agent_seq > observed, "{} must not repeat {observed}", end.agent_seq);
    assert!(matches!(&end.fact, AgentFact::Undone(u) if u.ended_by == EndedBy::Rescue && u.undone_by == "rescue"));
    bench.warden.command(Command::Settle(vec![id]));
    assert!(bench.unsettled().is_empty());
    assert!(bench.crash().unsettled().is_empty());
}

#[test]
fn after_a_reboot_the_end_says_so() {
    let mut bench = Bench::new();
    bench.hold();
    bench.host.reboot("boot-2");
    let mut bench = bench.crash();
    let told = bench.unsettled();
    assert!(
        told.iter()
            .any(|r| matches!(&r.fact, AgentFact::Undone(u) if u.ended_by == EndedBy::Boot))
    );
}

#[test]
fn effects_are_measured_in_windows_numbered_from_one() {
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.pass_renewing(&id, 17_000);
    let windows: Vec<u64> = bench
        .facts(&id)
        .into_iter()
        .filter_map(|f| match f {
            AgentFact::Observed(observed) => Some(observed.window),
            _ => None,
        })
        .collect();
    assert_eq!(windows, [1, 2, 3]);
}

#[test]
fn what_happened_since_the_last_look_is_told_when_the_time_is_over_and_a_stop_waits_for_no_look() {
    let windows = |facts: &[AgentFact]| facts.iter().filter(|fact| matches!(fact, AgentFact::Observed(_))).count();
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.pass_renewing(&id, 59_000);
    let before = windows(&bench.facts(&id));
    bench.pass_renewing(&id, 1_000);
    assert_eq!(bench.undone(&id).ended_by, EndedBy::DurationElapsed);
    assert_eq!(windows(&bench.facts(&id)), before + 1);
    // Late, when the kernel may have ended it.
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.pass_renewing(&id, 58_000);
    let before = windows(&bench.facts(&id));
    bench.warden.command(Command::Renew(vec![id.clone()], 60_000));
    bench.host.advance(2_100);
    bench.pass(100);
    assert_eq!(bench.undone(&id).ended_by, EndedBy::DurationElapsed);
    assert_eq!(windows(&bench.facts(&id)), before);
    let mut bench = Bench::new();
    let id = bench.hold();
    bench.pass_renewing(&id, 14_000);
    let before = bench.facts(&id).len();
    bench.stop(&id);
    let after = bench.facts(&id).split_off(before);
    assert!(matches!(after[0], AgentFact::Ending(_)), "{after:?}");
}

#[test]
fn a_look_that_hangs_elsewhere_keeps_no_injection_open_and_the_host_unproven() {
    let mut bench = Bench::new();
    let order = bench.order("test.pause", json!({}));
    let id = order.injection.clone();
    bench.start(order);
    // A process of root's that no fault has touched.
    bench.host.hang_programs([400]);
    let stopped = bench.stop(&id);
    assert!(matches!(stopped, Some(Ok(UndoAnswer::UndoneNow))), "{stopped:?}");
    assert_eq!(bench.undone(&id).ended_by, EndedBy::Stop);
    let status = bench.status();
    assert_eq!((status.cleanliness, status.active.len()), (Cleanliness::Unproven, 0));
    assert!(status.residue[0].contains("process 400"), "{:?}", status.residue);
    // An operator stops it meanwhile: that is no more for the agent to end.
    bench.host.set_state(REDIS, ProcessState::Stopped);
    bench.pass(12_000);
    let resumed = format!("continue redis-server (pid {REDIS})");
    assert_eq!(bench.host.calls().iter().filter(|call| **call == resumed).count(), 1);
    assert_eq!(bench.refused(bench.order("test.hold", json!({}))).code, "unproven");
    bench.host.hang_programs([]);
    bench.pass(1_200);
    assert_eq!(bench.status().cleanliness, Cleanliness::Clean);
}

#[test]
fn a_look_that_fails_at_what_an_undo_names_is_no_end() {
    let mut bench = Bench::new();
    let mut tried_again = 0;
    for nth in 1..=20 {
        let id = bench.hold();
        bench.host.fail_nth_look(Some(nth));
        let stopped = bench.stop(&id);
        bench.host.fail_nth_look(None);
        if stopped.is_none() {
            tried_again += 1;
        }
        bench.pass(1_200);
        assert_eq!(bench.host.knob_now(), "calm", "look {nth}");
        assert_eq!(bench.undone(&id).ended_by, EndedBy::Stop, "look {nth}");
        assert_eq!(bench.status().cleanliness, Cleanliness::Clean, "look {nth}");
    }
    assert_eq!(
        tried_again, 3,
        "the undo looks at the knob before it writes and after, and the proof looks once"
    );
}

#[test]
fn a_proof_is_clean_only_when_the_effect_is_gone() {
    let mut bench = Bench::new();
    let id = bench.hold();
    assert_ne!(bench.verify(std::slice::from_ref(&id)).result, Cleanliness::Clean);
    assert_eq!(
        bench.verify(&[]).result,
        Cleanliness::Clean,
        "what others hold rightly is not residue"
    );
    bench.stop(&id);
    assert_eq!(bench.verify(std::slice::from_ref(&id)).result, Cleanliness::Clean);
    bench.host.turn_knob("wild");
    assert_eq!(bench.verify(std::slice::from_ref(&id)).result, Cleanliness::Dirty);
    assert_eq!(bench.refused(bench.order("test.hold", json!({}))).code, "dirty");
    bench.host.turn_knob("calm");
    bench.pass(1_200);
    bench.hold();
}

#[test]
fn what_was_so_already_is_seen_and_let_go_and_not_held_for_its_duration() {
    let mut bench = Bench::new();
    let order = bench.order("test.already", json!({}));
    let id = order.injection.clone();
    bench.start(order);
    bench.pass(3_500);
    assert_eq!(bench.undone(&id).ended_by, EndedBy::DurationElapsed);
    let facts = bench.facts(&id);
    let seen = |fact: &AgentFact| matches!(fact, AgentFact::Observed(seen) if seen.observation.state == EffectState::Confirmed);
    assert!(facts.iter().any(seen), "{facts:?}");
}

#[test]
fn after_a_reboot_no_time_is_left_for_what_cannot_be_undone_yet() {
    let mut bench = Bench::new();
    bench.hold();
    bench.host.reboot("boot-2");
    bench.host.fail_writes(u32::MAX);
    let mut bench = bench.crash();
    let active = &bench.status().active[0];
    assert_eq!((active.state, active.left_ms), (InjectionState::UndoFailed, 0));
}
