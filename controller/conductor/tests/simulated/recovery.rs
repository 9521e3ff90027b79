//! What a run says of the system after its end: recovered or not, whatever ended it, beside the verdict.

use controller_report::{html, junit, markdown};
use proto_model::document::RecoveryState;
use proto_model::event::StopCause;
use proto_model::injection::EndedBy;
use proto_model::probe::{Phase, SampleResult};
use proto_model::verdict::{RunEndedBy, Verdict};

use crate::fleet::{START, Sim};
use crate::plans::{GUARD, PROBE, experiment, fault};

fn plan() -> proto_model::plan::Plan {
    experiment(&["web"], vec![fault(0, &["web"], 60_000)])
}

/// The guard breaks at about 12 s, and from then on nothing answers any more.
fn never_back(_: &str, ms: u64) -> SampleResult {
    if ms < 9_500 { SampleResult::Good } else { SampleResult::Bad }
}

#[test]
fn a_run_whose_guard_broke_watches_until_its_time_is_over_and_says_that_nothing_came_back() {
    let ended = Sim::new(&plan()).seeing(never_back).finish(120_000);
    assert_eq!(ended.run.ended_by, Some(RunEndedBy::Guard));
    let recovery = ended.run.recovery.clone().unwrap();
    assert_eq!((recovery.state, recovery.after_ms), (RecoveryState::NotRecovered, None));
    let over = ended.run.injections[0].ended_at.unwrap();
    let watched = ended.run.finished_at.unwrap().since(over);
    assert!((20_000..22_000).contains(&watched), "{watched} ms");
    let names: Vec<&str> = recovery.probes.iter().map(|probe| probe.name.as_str()).collect();
    assert_eq!(names, [PROBE, GUARD]);
    for probe in &recovery.probes {
        let last = probe.last.as_ref().unwrap();
        assert_eq!((last.result, last.error.as_deref()), (SampleResult::Bad, Some("refused")));
        assert!(
            ended.run.finished_at.unwrap().since(last.at) < 2_000,
            "the last answer is an old one"
        );
    }
    let words = "NOT RECOVERED: answers bad from the controller (refused); errors bad from the controller (refused)";
    let text = markdown(&ended.sim.events);
    assert_eq!(text.lines().nth(2), Some(format!("**{words}**").as_str()), "{text}");
    assert!(html(&ended.sim.events, None).contains(words));
    let xml = junit(&ended.sim.events);
    assert!(xml.contains("not_recovered") && xml.contains(words), "{xml}");
}

#[test]
fn recovery_is_stated_after_every_end() {
    let back_soon = |name: &str, ms: u64| {
        let bad = name == GUARD && (9_500..14_500).contains(&ms);
        if bad { SampleResult::Bad } else { SampleResult::Good }
    };
    let by_guard = Sim::new(&plan()).seeing(back_soon).finish(120_000);
    assert_eq!(
        (by_guard.run.verdict, by_guard.run.ended_by),
        (Some(Verdict::Aborted), Some(RunEndedBy::Guard))
    );
    let recovery = by_guard.run.recovery.unwrap();
    assert_eq!(recovery.state, RecoveryState::Recovered);
    assert!((1_500..4_000).contains(&recovery.after_ms.unwrap()), "{:?}", recovery.after_ms);
    for cause in [StopCause::Operator, StopCause::Halt] {
        let mut sim = Sim::new(&plan());
        sim.until(9_000);
        sim.stop(cause);
        let ended = sim.finish(120_000);
        assert_eq!(ended.run.verdict, Some(Verdict::Aborted), "{cause:?}");
        assert_eq!(ended.run.recovery.unwrap().state, RecoveryState::Recovered, "{cause:?}");
        assert!(ended.run.probes.iter().any(|probe| probe.phase == Phase::After));
    }
    let mut restarted = Sim::new(&plan());
    restarted.until(9_000);
    restarted.restart_controller();
    assert_eq!(restarted.finish(120_000).run.recovery.unwrap().state, RecoveryState::Recovered);
    let failed = Sim::new(&plan()).with("web", |m| m.ends = EndedBy::EndedEarly).finish(120_000);
    assert_eq!(failed.run.recovery.unwrap().state, RecoveryState::Recovered);
}

#[test]
fn a_system_that_does_not_come_back_changes_no_verdict() {
    // Steady while the fault acts; the probe breaks when the run is stopped.
    let breaks_after = |name: &str, ms: u64| {
        if name == PROBE && ms > 12_000 {
            SampleResult::Bad
        } else {
            SampleResult::Good
        }
    };
    let mut sim = Sim::new(&plan()).seeing(breaks_after);
    sim.until(11_800);
    sim.stop(StopCause::Operator);
    let ended = sim.finish(120_000);
    assert_eq!((ended.run.verdict, ended.run.exit_code), (Some(Verdict::Aborted), Some(7)));
    assert_eq!(ended.codes(), ["stopped"]);
    assert_eq!(ended.run.recovery.unwrap().state, RecoveryState::NotRecovered);
}

#[test]
fn nothing_is_recovered_from_where_nothing_was_injected() {
    let ended = Sim::new(&plan()).with("web", |m| m.refuses_preflight = true).finish(60_000);
    assert_eq!(ended.run.recovery, None);
    assert!(ended.sim.elapsed() < 5_000);
}

#[test]
fn an_end_that_is_heard_late_has_its_own_time_and_its_samples() {
    // The host holds for 10 s and is away from 7 s to 40 s; the probe is bad until 18 s.
    let bad = |name: &str, ms: u64| {
        if name == PROBE && (7_000..18_000).contains(&ms) {
            SampleResult::Bad
        } else {
            SampleResult::Good
        }
    };
    let mut sim = Sim::new(&experiment(&["web"], vec![fault(0, &["web"], 10_000)]));
    sim.dated = true;
    let sim = sim.with("web", |m| m.away = Some((7_000, 26_000))).seeing(bad);
    let ended = sim.finish(180_000);
    let injection = &ended.run.injections[0];
    let ended_at = injection.ended_at.unwrap().0 - START;
    // Its lease is over first: it was ordered at about 6 s.
    assert!((11_000..13_500).contains(&ended_at), "{ended_at}: {:?}", injection);
    let recovery = ended.run.recovery.unwrap();
    let back = i64::try_from(recovery.after_ms.unwrap()).unwrap() + ended_at;
    assert!((17_000..18_500).contains(&back), "{recovery:?}");
    let during = ended.run.probes.iter().find(|probe| probe.phase == Phase::During).unwrap();
    assert!(during.bad < 7, "bad samples from after the end count as during: {during:?}");
}
