//! Runs with trouble at random: they end in time, keep every law of the fleet, and pass only when nothing was wrong.

use proptest::prelude::*;
use proto_model::event::StopCause;
use proto_model::injection::{Cleanliness, EffectState, EndedBy};
use proto_model::verdict::{Cleanup, Verdict};

use crate::fleet::Sim;
use crate::hosts::Manners;
use crate::plans::{experiment, fault, going_on, in_order, parallel, wait};

fn manners() -> impl Strategy<Value = Manners> {
    let away = prop_oneof![3 => Just(None), 1 => (0_u64..60_000, 100_u64..90_000).prop_map(|(from, ms)| Some((from, from + ms)))];
    let ends = prop_oneof![8 => Just(EndedBy::DurationElapsed), 1 => Just(EndedBy::ApplyFailed), 1 => Just(EndedBy::EndedEarly)];
    let effect = prop_oneof![8 => Just(EffectState::Confirmed), 1 => Just(EffectState::Mismatch), 1 => Just(EffectState::Unexercised)];
    let rarely = || prop::bool::weighted(0.07);
    (away, ends, effect, rarely(), rarely(), rarely(), rarely(), rarely()).prop_map(
        |(away, ends, effect, refuses, order, dirty, deaf, restarted)| Manners {
            refuses_preflight: refuses,
            answers_preflight: true,
            refuses_order: order.then_some("policy"),
            ends,
            away,
            restarted,
            dirty,
            deaf,
            effect,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_passes_only_when_nothing_was_wrong(
        web in manners(),
        cache in manners(),
        stop in prop::option::weighted(0.3, 0_u64..50_000),
        restart in prop::option::weighted(0.3, 0_u64..50_000),
    ) {
        let plan = experiment(&["web", "cache"], vec![fault(0, &["cache"], 10_000), wait(1, 2_000), fault(2, &["web", "cache"], 15_000)]);
        let fine = |m: &Manners| m.effect == EffectState::Confirmed && m.ends == EndedBy::DurationElapsed && !m.dirty && m.refuses_order.is_none() && !m.refuses_preflight;
        let all_fine = fine(&web) && fine(&cache);
        let mut sim = Sim::new(&plan).with("web", |m| *m = web).with("cache", |m| *m = cache);
        let mut turns: Vec<(u64, bool)> = stop.map(|at| (at, true)).into_iter().chain(restart.map(|at| (at, false))).collect();
        turns.sort_unstable();
        for (at, is_stop) in turns {
            sim.until(at);
            if sim.phases().last() == Some(&proto_model::event::RunPhase::Finished) {
                break;
            }
            if is_stop { sim.stop(StopCause::Operator) } else { sim.restart_controller() }
        }
        // The longest way: a host lost for ever under the last step, its grace, and the time for proofs.
        let ended = sim.finish(400_000);
        if ended.run.verdict == Some(Verdict::Passed) {
            prop_assert!(all_fine && ended.run.cleanup == Cleanup::Proven && restart.is_none_or(|at| at >= ended.sim.elapsed() - 1_000));
        }
        if ended.run.cleanup != Cleanup::Proven {
            prop_assert_eq!(ended.run.exit_code, Some(8));
        }
    }

    /// The laws of every run hold with branches too: each injection is ordered at most once and only after it is on record,
    /// whatever was ordered is ended or its host is named, and no step is left open.
    #[test]
    fn every_run_with_branches_ends_and_leaves_nothing_open(
        web in manners(),
        cache in manners(),
        goes_on in any::<bool>(),
        no_room in prop::option::weighted(0.15, prop::sample::select(vec!["steps[1]", "steps[0].parallel[1].steps[1]", "steps[0].parallel[0]"])),
        stop in prop::option::weighted(0.3, 0_u64..50_000),
        restart in prop::option::weighted(0.3, 0_u64..50_000),
    ) {
        let first = fault(0, &["web", "cache"], 10_000);
        let first = if goes_on { going_on(first) } else { first };
        let second = in_order(vec![wait(0, 3_000), fault(1, &["cache"], 12_000)]);
        let plan = experiment(&["web", "cache"], vec![parallel(0, vec![first, second, wait(0, 1_000)]), fault(1, &["web"], 6_000)]);
        let mut sim = Sim::new(&plan).with("web", |m| *m = web.clone()).with("cache", |m| *m = cache.clone());
        sim.no_room_for = no_room;
        let mut turns: Vec<(u64, bool)> = stop.map(|at| (at, true)).into_iter().chain(restart.map(|at| (at, false))).collect();
        turns.sort_unstable();
        for (at, is_stop) in turns {
            sim.until(at);
            if sim.phases().last() == Some(&proto_model::event::RunPhase::Finished) {
                break;
            }
            if is_stop { sim.stop(StopCause::Operator) } else { sim.restart_controller() }
        }
        let ended = sim.finish(400_000);
        if ended.run.verdict == Some(Verdict::Passed) {
            for manners in [&web, &cache] {
                prop_assert!(manners.effect == EffectState::Confirmed && manners.ends == EndedBy::DurationElapsed);
                prop_assert!(!manners.dirty && manners.refuses_order.is_none() && !manners.refuses_preflight);
            }
            prop_assert!(no_room.is_none() && ended.run.cleanup == Cleanup::Proven);
        }
        for step in &ended.run.steps {
            prop_assert!(["done", "failed", "cancelled", "skipped"].contains(&step.state.as_str()), "{:?}", step);
        }
        for injection in &ended.run.injections {
            // Of an order that was lost on the way nobody tells an end; its host must be proven clean then, or be named.
            let proof = ended.run.hosts.iter().find(|host| host.name == injection.host).map(|host| host.cleanliness);
            let over = injection.state.is_terminal() || proof == Some(Cleanliness::Clean);
            prop_assert!(over || ended.run.exit_code == Some(8), "{:?}", injection);
        }
    }
}
