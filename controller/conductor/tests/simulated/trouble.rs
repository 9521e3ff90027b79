//! Hosts that refuse, fail, vanish, return, stay dirty, and a controller that restarts.

use controller_conductor::Action;
use proto_model::event::{EventBody, RunPhase};
use proto_model::injection::{AgentFact, AgentReport, EndedBy, InjectionState, UndoAnswer, Undone};
use proto_model::probe::{ProbeRole, Prober};
use proto_model::verdict::{Cleanup, RunEndedBy, Verdict};

use crate::fleet::{LEASE, Sim};
use crate::plans::{GUARD, attack, experiment, fault, host, probe};

const FOR_EVER: u64 = u64::MAX;

fn plan() -> proto_model::plan::Plan {
    experiment(&["web", "cache"], vec![fault(0, &["web", "cache"], 30_000)])
}

#[test]
fn one_refusal_in_preflight_starts_nothing_and_all_refusals_are_listed() {
    let ended = Sim::new(&plan())
        .with("web", |m| m.refuses_preflight = true)
        .with("cache", |m| m.refuses_preflight = true)
        .finish(60_000);
    assert_eq!(
        (ended.run.verdict, ended.run.exit_code, ended.ordered()),
        (Some(Verdict::Error), Some(1), 0)
    );
    assert_eq!(ended.codes(), ["refused", "refused"]);
}

#[test]
fn a_host_that_does_not_answer_preflight_starts_nothing() {
    let ended = Sim::new(&plan()).with("web", |m| m.answers_preflight = false).finish(60_000);
    assert_eq!((ended.run.exit_code, ended.ordered()), (Some(1), 0));
    assert!(ended.run.reasons[0].message.contains("web"), "{:?}", ended.run.reasons);
    let away = Sim::new(&plan()).with("cache", |m| m.away = Some((0, FOR_EVER))).finish(60_000);
    assert_eq!((away.run.exit_code, away.ordered()), (Some(1), 0));
}

#[test]
fn a_failure_on_one_host_stops_the_run_on_all() {
    for (change, code) in [(EndedBy::ApplyFailed, "apply_failed"), (EndedBy::EndedEarly, "ended_early")] {
        let ended = Sim::new(&plan()).with("cache", |m| m.ends = change).finish(60_000);
        assert_eq!((ended.run.verdict, ended.run.exit_code), (Some(Verdict::Error), Some(1)));
        assert_eq!(ended.codes()[0], code);
        assert_eq!(ended.run.reasons[0].host.as_ref().map(|h| h.as_str()), Some("cache"));
        assert!(ended.sim.elapsed() < 16_000, "web was held on for {} ms", ended.sim.elapsed());
        assert_eq!(ended.run.steps[0].state, "failed");
    }
    let refused = Sim::new(&plan())
        .with("cache", |m| m.refuses_order = Some("conflict"))
        .finish(60_000);
    assert_eq!((refused.codes()[0], refused.run.exit_code), ("refused", Some(1)));
    let halted = Sim::new(&plan()).with("cache", |m| m.refuses_order = Some("halted")).finish(60_000);
    assert_eq!(
        (halted.run.verdict, halted.run.ended_by),
        (Some(Verdict::Aborted), Some(RunEndedBy::Halt))
    );
}

#[test]
fn a_report_from_another_host_changes_nothing() {
    let mut sim = Sim::new(&plan());
    sim.until(10_000);
    let of_web = sim.hosts[&host("web")].held[0].injection.id.clone();
    let undone = Undone {
        ended_by: EndedBy::DurationElapsed,
        undone_by: "cache".into(),
        undo_ms: 1,
        answer: UndoAnswer::UndoneNow,
        drift: vec![],
    };
    let report = AgentReport {
        injection: of_web.clone(),
        run: String::new(),
        agent_seq: 1_000,
        boot_id: "b".into(),
        boot_ms: 1,
        fact: AgentFact::Undone(undone),
    };
    let before = sim.events.len();
    sim.report(&host("cache"), vec![report]);
    sim.beat();
    assert!(!sim.settled.contains(&of_web) && sim.events[before..].iter().all(|event| event.body.injection() != Some(&of_web)));
    let ended = sim.finish(120_000);
    assert_eq!(ended.run.verdict, Some(Verdict::Passed), "{:?}", ended.run.reasons);
}

#[test]
fn a_blink_of_the_session_is_no_loss() {
    let ended = Sim::new(&plan()).with("web", |m| m.away = Some((9_000, 10_000))).finish(120_000);
    assert_eq!(ended.run.verdict, Some(Verdict::Passed), "{:?}", ended.run.reasons);
}

#[test]
fn a_host_that_is_lost_and_returns_aborts_the_run_and_is_proven_clean() {
    let ended = Sim::new(&plan()).with("web", |m| m.away = Some((9_000, 25_000))).finish(120_000);
    assert_eq!(
        (ended.run.verdict, ended.run.cleanup),
        (Some(Verdict::Aborted), Cleanup::Proven),
        "{:?}",
        ended.run.reasons
    );
    assert_eq!(ended.run.ended_by, Some(RunEndedBy::HostLost));
    let web = ended.run.injections.iter().find(|i| i.host.as_str() == "web").unwrap();
    assert_eq!((web.state, web.ended_by), (InjectionState::Undone, Some(EndedBy::LeaseLost)));
    assert!(ended.sim.events.iter().any(|e| matches!(e.body, EventBody::LeaseLapsed { .. })));
}

#[test]
fn an_agent_and_guardian_killed_together_are_never_a_pass() {
    let ended = Sim::new(&attack(&["web"], 30_000))
        .with("web", |m| (m.away, m.restarted) = (Some((9_000, 45_000)), true))
        .finish(180_000);
    assert_eq!((ended.run.verdict, ended.run.exit_code), (Some(Verdict::Aborted), Some(7)));
    assert_eq!(ended.run.injections[0].ended_by, Some(EndedBy::KernelExpiry));
}

#[test]
fn a_host_that_never_returns_is_unproven_after_deadline_and_grace() {
    let ended = Sim::new(&plan()).with("web", |m| m.away = Some((9_000, FOR_EVER))).finish(240_000);
    assert_eq!(
        (ended.run.verdict, ended.run.exit_code, ended.run.cleanup),
        (Some(Verdict::Error), Some(8), Cleanup::Unproven)
    );
    assert_eq!(ended.run.reasons[0].host.as_ref().map(|h| h.as_str()), Some("web"));
    // Ordered at about 6 s for 30 s: deadline, lease and 15 s at most; what is connected is undone at once.
    let most = 36_500 + LEASE + 15_000;
    assert!((36_000..most).contains(&ended.sim.elapsed()), "{}", ended.sim.elapsed());
    let cache = ended.run.injections.iter().find(|i| i.host.as_str() == "cache").unwrap();
    assert!(cache.ended_at.unwrap().0 - crate::fleet::START < 13_000);
}

#[test]
fn a_host_that_returns_when_its_time_is_nearly_over_is_still_asked() {
    let ended = Sim::new(&plan()).with("web", |m| m.away = Some((33_000, 49_000))).finish(240_000);
    assert_eq!(ended.run.cleanup, Cleanup::Proven, "{:?}", ended.run.reasons);
    let late = Sim::new(&plan()).with("web", |m| m.away = Some((9_000, 50_000))).finish(240_000);
    assert_eq!(late.run.cleanup, Cleanup::Proven, "{:?}", late.run.reasons);
}

#[test]
fn a_host_lost_while_it_is_ordered_gets_no_second_order() {
    let ended = Sim::new(&plan()).with("web", |m| m.away = Some((5_600, 20_000))).finish(120_000);
    assert_eq!(ended.run.verdict, Some(Verdict::Aborted), "{:?}", ended.run.reasons);
    assert_eq!(ended.run.ended_by, Some(RunEndedBy::HostLost));
}

#[test]
fn residue_is_an_error_whatever_else_was_seen() {
    let ended = Sim::new(&plan()).with("cache", |m| m.dirty = true).finish(180_000);
    assert_eq!(
        (ended.run.verdict, ended.run.exit_code, ended.run.cleanup),
        (Some(Verdict::Error), Some(8), Cleanup::Dirty)
    );
    assert_eq!(ended.codes(), ["host_dirty"]);
    let asked = ended
        .sim
        .acts
        .iter()
        .filter(|(_, a)| matches!(a, Action::Verify { host, .. } if host.as_str() == "cache"))
        .count();
    assert!(asked > 10, "a dirty host is asked again until the time is over: {asked}");
}

#[test]
fn a_host_that_does_not_stop_is_asked_for_its_proof_all_the_same() {
    let mut sim = Sim::new(&experiment(&["web"], vec![fault(0, &["web"], 600_000)])).with("web", |m| m.deaf = true);
    sim.until(9_000);
    sim.stop(proto_model::event::StopCause::Operator);
    let ended = sim.finish(120_000);
    // The lease is no longer renewed, so that it ends all the same.
    assert_eq!(
        (ended.run.verdict, ended.run.cleanup),
        (Some(Verdict::Aborted), Cleanup::Proven),
        "{:?}",
        ended.run.reasons
    );
    assert!(ended.sim.elapsed() < 9_000 + LEASE + 7_000);
}

#[test]
fn a_restarted_controller_stops_what_it_finds_and_never_orders_again() {
    for at in (100..44_000).step_by(700) {
        let mut sim = Sim::new(&plan());
        sim.until(at);
        if sim.phases().last() == Some(&RunPhase::Finished) {
            break;
        }
        let before = sim.acts.len();
        sim.restart_controller();
        let ended = sim.finish(180_000);
        assert!(
            !ended.sim.acts[before..].iter().any(|(_, a)| matches!(a, Action::Order { .. })),
            "{at}"
        );
        assert_eq!(
            (ended.run.verdict, ended.run.exit_code),
            (Some(Verdict::Aborted), Some(7)),
            "{at}: {:?}",
            ended.run.reasons
        );
        assert_eq!(ended.run.ended_by, Some(RunEndedBy::ControllerRestart), "{at}");
        assert_eq!(ended.run.cleanup, Cleanup::Proven, "{at}");
    }
}

#[test]
fn an_end_whose_settlement_was_lost_is_settled_when_it_is_told_again() {
    let steps = vec![fault(0, &["cache"], 6_000), fault(1, &["web"], 30_000)];
    let mut sim = Sim::new(&experiment(&["web", "cache"], steps));
    sim.loses_settlements = true;
    sim.until(16_000);
    assert!(sim.settled.is_empty());
    sim.restart_controller();
    let ended = sim.finish(120_000);
    assert_eq!(ended.sim.settled.len(), 2);
    let undone = ended
        .sim
        .events
        .iter()
        .filter(|e| matches!(e.body, EventBody::InjectionUndone { .. }))
        .count();
    assert_eq!(undone, 2, "a repeat was recorded as news");
}

#[test]
fn leases_are_not_renewed_while_nobody_looks_at_a_guard() {
    let mut plan = experiment(&["web", "client"], vec![fault(0, &["web"], 60_000)]);
    let mut guard = probe(GUARD, ProbeRole::Guard, Prober::Hosts(vec![host("client")]));
    guard.breaks = 100;
    plan.guards = vec![guard];
    let ended = Sim::new(&plan)
        .with("client", |m| m.away = Some((10_000, FOR_EVER)))
        .finish(240_000);
    assert_eq!(
        ended.run.injections[0].ended_by,
        Some(EndedBy::LeaseLost),
        "{:?}",
        ended.run.reasons
    );
    assert_eq!(ended.run.verdict, Some(Verdict::Aborted));
    // Its guard is never heard again, so that the run watches for it until its time is over.
    assert!(ended.sim.elapsed() < 55_000, "{}", ended.sim.elapsed());
}

#[test]
fn a_controller_that_restarts_twice_still_ends_the_run() {
    let mut sim = Sim::new(&plan()).with("web", |m| m.away = Some((9_000, 30_000)));
    sim.until(10_000);
    sim.restart_controller();
    sim.until(12_000);
    sim.restart_controller();
    let ended = sim.finish(180_000);
    assert_eq!((ended.run.verdict, ended.run.cleanup), (Some(Verdict::Aborted), Cleanup::Proven));
    let stops = ended
        .sim
        .events
        .iter()
        .filter(|e| matches!(e.body, EventBody::StopRequested { .. }))
        .count();
    assert_eq!(stops, 1);
}
