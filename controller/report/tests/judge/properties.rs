//! Any order of any events: never a panic, and never `passed` without everything that a pass needs.

use controller_report::{RunState, fold, judge, markdown};
use proptest::prelude::*;
use proto_model::event::{EventBody, RunPhase, StopCause};
use proto_model::injection::{CleanProof, EffectState, EndedBy};
use proto_model::probe::{Phase, Tolerance};
use proto_model::verdict::{Cleanup, Verdict};

use crate::story::{Story, plan};

#[derive(Debug, Clone)]
enum Turn {
    Preflight,
    Phase(RunPhase),
    Samples(Phase, String),
    Order,
    Applied(bool),
    Windows(String),
    Undone(EndedBy),
    Spent,
    Refused(&'static str),
    Recovered,
    Stop(StopCause),
    Proof(bool),
    Unproven,
    Restarted,
}

fn turn() -> impl Strategy<Value = Turn> {
    use EndedBy::{ApplyFailed, DurationElapsed, EndedEarly, Guardian, LeaseLost, Stop};
    let ends = prop::sample::select(vec![
        DurationElapsed,
        DurationElapsed,
        DurationElapsed,
        Stop,
        LeaseLost,
        EndedEarly,
        ApplyFailed,
        Guardian,
    ]);
    let causes = prop::sample::select(vec![
        StopCause::Operator,
        StopCause::Guard,
        StopCause::HostLost,
        StopCause::Failure,
        StopCause::Baseline,
    ]);
    let phases = prop::sample::select(vec![Phase::Before, Phase::During, Phase::After]);
    let moves = prop::sample::select(vec![
        RunPhase::Before,
        RunPhase::During,
        RunPhase::After,
        RunPhase::Verifying,
        RunPhase::Finished,
    ]);
    prop_oneof![
        1 => Just(Turn::Preflight),
        1 => moves.prop_map(Turn::Phase),
        6 => (phases, "[gggggbm]{0,6}").prop_map(|(phase, letters)| Turn::Samples(phase, letters)),
        2 => Just(Turn::Order),
        2 => prop::bool::weighted(0.1).prop_map(Turn::Applied),
        2 => "[cccmu?]{0,5}".prop_map(Turn::Windows),
        2 => ends.prop_map(Turn::Undone),
        1 => Just(Turn::Spent),
        1 => prop::sample::select(vec!["policy", "halted"]).prop_map(Turn::Refused),
        2 => Just(Turn::Recovered),
        1 => causes.prop_map(Turn::Stop),
        3 => prop::bool::weighted(0.8).prop_map(Turn::Proof),
        1 => Just(Turn::Unproven),
        1 => Just(Turn::Restarted),
    ]
}

fn told(turns: &[Turn], hypothesis: bool) -> Story {
    let mut story = Story::of(plan(&["web", "cache"], hypothesis.then_some(Tolerance::Count(0))));
    for turn in turns {
        match turn {
            Turn::Preflight => story.preflight(None),
            Turn::Phase(to) => story.phase(*to),
            Turn::Samples(phase, letters) => story.samples(*phase, letters),
            Turn::Order => story.order(),
            Turn::Applied(noop) => story.applied(*noop),
            Turn::Windows(letters) => story.windows(letters),
            Turn::Undone(by) => story.undone(*by),
            Turn::Spent => story.spent(),
            Turn::Refused(code) => story.refused(code),
            Turn::Recovered => story.recovered(),
            Turn::Stop(cause) => story.stop(*cause),
            Turn::Proof(true) => story.clean(),
            Turn::Proof(false) => story.proven(CleanProof::of(vec!["x".into()], vec![], vec![], vec![], "b")),
            Turn::Unproven => story.proven(CleanProof::unproven()),
            Turn::Restarted => story.push(EventBody::ControllerRestarted { down_ms: 1 }),
        };
    }
    story
}

/// A run that passes, so that the turns around it have something to spoil.
fn good(end: EndedBy) -> Vec<Turn> {
    vec![
        Turn::Preflight,
        Turn::Phase(RunPhase::Before),
        Turn::Samples(Phase::Before, "ggggg".into()),
        Turn::Order,
        Turn::Applied(false),
        Turn::Windows("ccc".into()),
        Turn::Samples(Phase::During, "ggggg".into()),
        Turn::Undone(end),
        Turn::Samples(Phase::After, "ggg".into()),
        Turn::Recovered,
        Turn::Proof(true),
    ]
}

fn check_pass(story: &Story, hypothesis: bool) -> Result<(), TestCaseError> {
    let judgement = story.judgement();
    let state = RunState::of(&story.events).unwrap();
    if judgement.cleanup != Cleanup::Proven {
        prop_assert_eq!((judgement.verdict, judgement.exit_code), (Verdict::Error, 8));
    }
    prop_assert_eq!(judgement.verdict == Verdict::Passed, judgement.reasons.is_empty());
    if judgement.verdict == Verdict::Passed {
        prop_assert!(hypothesis && state.stop.is_none() && !state.restarted && !state.injections.is_empty());
        for i in &state.injections {
            prop_assert!(i.effect() == EffectState::Confirmed || i.noop, "{:?}", i.effect());
            prop_assert!(i.state.is_terminal() && i.refusal.is_none());
            prop_assert!(state.proofs.contains_key(&i.injection.host));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_passes_without_what_a_pass_needs(turns in prop::collection::vec(turn(), 0..25), hypothesis: bool) {
        check_pass(&told(&turns, hypothesis), hypothesis)?;
    }

    #[test]
    fn a_good_run_with_anything_put_into_it_is_judged_by_what_was_put(extra in turn(), at in 0_usize..12) {
        let mut turns = good(EndedBy::DurationElapsed);
        turns.insert(at.min(turns.len()), extra);
        check_pass(&told(&turns, true), true)?;
    }

    #[test]
    fn any_prefix_folds_and_reads(turns in prop::collection::vec(turn(), 0..25), hypothesis: bool) {
        let story = told(&turns, hypothesis);
        for end in 0..=story.events.len() {
            let prefix = &story.events[..end];
            prop_assert_eq!(fold(prefix).is_some(), end > 0);
            prop_assert_eq!(RunState::of(prefix).as_ref().map(judge).is_some(), end > 0);
            prop_assert_eq!(markdown(prefix).is_empty(), end == 0);
        }
        // Without its beginning no history is a run.
        prop_assert!(fold(&story.events[1..]).is_none());
    }
}

#[test]
fn the_good_run_passes() {
    let story = told(&good(EndedBy::DurationElapsed), true);
    assert_eq!(story.judgement().verdict, Verdict::Passed);
}
