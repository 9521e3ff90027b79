//! Runs that go as planned, and those that a probe, a guard, a person or a limit ends.

use controller_conductor::Action;
use proto_model::event::{RunPhase, StopCause};
use proto_model::injection::EffectState;
use proto_model::probe::{Phase, ProbeRole, Prober, SampleResult};
use proto_model::verdict::{Cleanup, RunEndedBy, Verdict};

use crate::fleet::{LEASE, Sim};
use crate::plans::{GUARD, PROBE, attack, experiment, fault, host, probe, wait};

fn two_steps() -> proto_model::plan::Plan {
    experiment(
        &["web", "cache"],
        vec![fault(0, &["cache"], 12_000), wait(1, 3_000), fault(2, &["web", "cache"], 12_000)],
    )
}

#[test]
fn steady_throughout_passes() {
    let ended = Sim::new(&two_steps()).finish(120_000);
    assert_eq!(
        (ended.run.verdict, ended.run.exit_code),
        (Some(Verdict::Passed), Some(0)),
        "{:?}",
        ended.run.reasons
    );
    use RunPhase::{After, Before, During, Finished, Preflight, Verifying};
    assert_eq!(ended.sim.phases(), [Preflight, Before, During, After, Verifying, Finished]);
    assert_eq!(ended.ordered(), 3);
    assert_eq!(ended.run.ended_by, Some(RunEndedBy::Completed));
    assert_eq!(ended.run.recovery_ms, Some(0));
    assert!(ended.run.steps.iter().all(|s| s.state == "done"), "{:?}", ended.run.steps);
    let phases: Vec<Phase> = ended.run.probes.iter().map(|p| p.phase).collect();
    assert_eq!(phases, [Phase::Before, Phase::During, Phase::After]);
}

#[test]
fn leases_are_renewed_at_a_third_while_it_holds() {
    let plan = experiment(&["web"], vec![fault(0, &["web"], 30_000)]);
    let ended = Sim::new(&plan).finish(120_000);
    assert_eq!(ended.run.verdict, Some(Verdict::Passed), "{:?}", ended.run.reasons);
    let at: Vec<u64> = ended
        .sim
        .acts
        .iter()
        .filter(|(_, a)| matches!(a, Action::Renew { .. }))
        .map(|(at, _)| *at)
        .collect();
    assert!(at.len() >= 12, "{at:?}");
    assert!(at.windows(2).all(|w| w[1] - w[0] <= LEASE / 3 + 100), "{at:?}");
}

#[test]
fn a_hypothesis_that_breaks_fails_and_names_the_step() {
    let bad_while_cache_burns = |name: &str, ms: u64| match name {
        PROBE if (8_000..14_000).contains(&ms) => SampleResult::Bad,
        _ => SampleResult::Good,
    };
    let ended = Sim::new(&two_steps()).seeing(bad_while_cache_burns).finish(120_000);
    assert_eq!((ended.run.verdict, ended.run.exit_code), (Some(Verdict::Failed), Some(6)));
    assert_eq!(ended.codes(), ["hypothesis_broke"]);
    assert!(
        ended.run.reasons[0].message.contains("steps[0] (cpu.burn on cache)"),
        "{}",
        ended.run.reasons[0].message
    );
    assert!(ended.run.detection_ms.is_some_and(|ms| ms < 5_000));
}

#[test]
fn recovery_is_measured_from_the_last_undo_to_the_end_of_the_last_bad_sample() {
    let plan = experiment(&["web"], vec![fault(0, &["web"], 10_000)]);
    // The step ends at about 15.6 s.
    let slow_to_return = |name: &str, ms: u64| {
        if name == PROBE && (9_000..20_500).contains(&ms) {
            SampleResult::Bad
        } else {
            SampleResult::Good
        }
    };
    let ended = Sim::new(&plan).seeing(slow_to_return).finish(120_000);
    assert_eq!(ended.codes(), ["hypothesis_broke"]);
    let recovery = ended.run.recovery_ms.unwrap();
    assert!((3_500..5_500).contains(&recovery), "{recovery}");
    let never = |name: &str, ms: u64| {
        if name == PROBE && ms > 9_000 {
            SampleResult::Bad
        } else {
            SampleResult::Good
        }
    };
    let ended = Sim::new(&plan).seeing(never).finish(120_000);
    assert_eq!(ended.codes(), ["hypothesis_broke", "not_recovered"]);
    assert_eq!(ended.run.recovery_ms, None);
}

#[test]
fn an_unsteady_baseline_injects_nothing() {
    let ended = Sim::new(&two_steps())
        .seeing(|_, ms| if ms < 2_000 { SampleResult::Bad } else { SampleResult::Good })
        .finish(60_000);
    assert_eq!(
        (ended.run.verdict, ended.run.exit_code, ended.ordered()),
        (Some(Verdict::Inconclusive), Some(11), 0)
    );
    assert_eq!(ended.codes(), ["baseline_not_steady"]);
    assert!(ended.run.steps.iter().all(|s| s.state == "skipped"));
}

#[test]
fn a_prober_that_is_away_gives_missing_samples_and_no_verdict() {
    let mut plan = experiment(&["web", "client"], vec![fault(0, &["web"], 10_000)]);
    plan.guards.clear();
    plan.hypothesis.as_mut().unwrap().probes = vec![probe(PROBE, ProbeRole::Hypothesis, Prober::Hosts(vec![host("client")]))];
    plan.hosts.retain(|h| h.name == host("web"));
    let sim = Sim::new(&experiment(&["web", "client"], vec![]));
    drop(sim);
    let mut with_client = plan.clone();
    with_client.hosts = experiment(&["web", "client"], vec![]).hosts;
    let ended = Sim::new(&with_client)
        .with("client", |m| m.away = Some((7_000, 600_000)))
        .finish(120_000);
    assert_eq!(
        (ended.run.verdict, ended.run.exit_code),
        (Some(Verdict::Inconclusive), Some(11)),
        "{:?}",
        ended.run.reasons
    );
    assert!(ended.run.probes.iter().any(|p| p.missing > 0));
}

#[test]
fn a_guard_breaks_after_three_and_everything_is_undone() {
    let ended = Sim::new(&two_steps())
        .seeing(|name, ms| {
            if name == GUARD && (8_500..13_000).contains(&ms) {
                SampleResult::Bad
            } else {
                SampleResult::Good
            }
        })
        .finish(120_000);
    assert_eq!(
        (ended.run.verdict, ended.run.ended_by),
        (Some(Verdict::Aborted), Some(RunEndedBy::Guard))
    );
    assert_eq!(ended.codes(), ["guard_broke"]);
    assert_eq!(ended.run.cleanup, Cleanup::Proven);
    assert!(ended.sim.elapsed() < 18_000, "{}", ended.sim.elapsed());
    assert_eq!(ended.ordered(), 1);
    assert_eq!(ended.run.steps[0].state, "cancelled");
}

#[test]
fn no_data_breaks_a_guard_too() {
    let silent = |name: &str, ms: u64| {
        if name == GUARD && ms > 8_000 {
            SampleResult::Missing
        } else {
            SampleResult::Good
        }
    };
    let ended = Sim::new(&two_steps()).seeing(silent).finish(120_000);
    assert_eq!(ended.codes(), ["guard_broke"]);
}

#[test]
fn a_broken_hypothesis_stays_failed_when_a_guard_ends_the_run() {
    let both = |name: &str, ms: u64| match name {
        PROBE if ms > 8_000 => SampleResult::Bad,
        GUARD if ms > 14_000 => SampleResult::Bad,
        _ => SampleResult::Good,
    };
    let ended = Sim::new(&two_steps()).seeing(both).finish(120_000);
    assert_eq!((ended.run.verdict, ended.run.exit_code), (Some(Verdict::Failed), Some(6)));
    assert_eq!(ended.codes(), ["hypothesis_broke", "guard_broke"]);
}

#[test]
fn stopped_at_any_moment_everything_is_undone_and_proven() {
    for (cause, by) in [(StopCause::Operator, RunEndedBy::Operator), (StopCause::Halt, RunEndedBy::Halt)] {
        for at in (0..40_000).step_by(900) {
            let mut sim = Sim::new(&two_steps());
            sim.until(at);
            if sim.phases().contains(&RunPhase::Verifying) {
                break;
            }
            sim.stop(cause);
            let asked = sim.elapsed();
            let ended = sim.finish(120_000);
            assert!(ended.sim.elapsed() - asked < 6_000, "{at}: {} ms", ended.sim.elapsed() - asked);
            assert_eq!((ended.run.cleanup, ended.run.ended_by), (Cleanup::Proven, Some(by)), "{at}");
            assert_eq!(ended.run.verdict, Some(Verdict::Aborted), "{at}: {:?}", ended.run.reasons);
        }
    }
}

#[test]
fn a_limit_ends_the_run() {
    let mut plan = two_steps();
    plan.limits.duration_ms = Some(15_000);
    let ended = Sim::new(&plan).finish(120_000);
    assert_eq!(
        (ended.run.verdict, ended.run.ended_by),
        (Some(Verdict::Aborted), Some(RunEndedBy::Limit))
    );
    assert!(ended.sim.elapsed() < 21_000);
}

#[test]
fn a_plain_attack_exits_well_when_its_effect_was_seen() {
    let ended = Sim::new(&attack(&["web"], 11_000)).finish(60_000);
    assert_eq!((ended.run.verdict, ended.run.exit_code), (Some(Verdict::Inconclusive), Some(0)));
    use RunPhase::{During, Finished, Preflight, Verifying};
    assert_eq!(ended.sim.phases(), [Preflight, During, Verifying, Finished]);
    let unseen = Sim::new(&attack(&["web"], 11_000))
        .with("web", |m| m.effect = EffectState::Unexercised)
        .finish(60_000);
    assert_eq!(unseen.run.exit_code, Some(11));
    assert_eq!(unseen.codes(), ["no_hypothesis", "effect_unexercised"]);
}
