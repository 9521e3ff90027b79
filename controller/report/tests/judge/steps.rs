//! A run of several steps: what was seen between faults says nothing of a fault, and each step must hold by itself.

use proto_model::plan::{Plan, PlannedStep};
use proto_model::probe::{Phase, Tolerance};
use proto_model::quantity::Percent;
use proto_model::verdict::Verdict;

use controller_report::Judgement;

use crate::story::{PROBE, Story, plan};

/// The same fault at these paths, one after the other.
fn at(paths: &[&str], tolerate: Tolerance) -> Plan {
    let mut plan = plan(&["web"], Some(tolerate));
    let body = plan.steps[0].body.clone();
    let step = |path: &&str| PlannedStep {
        path: (*path).to_owned(),
        body: body.clone(),
    };
    plan.steps = paths.iter().map(step).collect();
    plan
}

/// What was seen while each fault acted, with a long wait full of good samples after each.
fn told(paths: &[&str], tolerate: Tolerance, seen: &[&str]) -> Story {
    let mut story = Story::of(at(paths, tolerate));
    story.before("ggggg");
    for (number, letters) in seen.iter().enumerate() {
        story.acts_alone(number, letters).samples(Phase::During, &"g".repeat(60));
    }
    story.after("ggg").recovered().clean();
    story
}

fn judged(paths: &[&str], tolerate: Tolerance, seen: &[&str]) -> Judgement {
    told(paths, tolerate, seen).judgement()
}

const TWO: &[&str] = &["steps[0]", "steps[2]"];
const ROUNDS: &[&str] = &["steps[0].round[0]", "steps[0].round[1]", "steps[0].round[2]"];

#[test]
fn steady_while_each_fault_acts_passes() {
    let judgement = judged(TWO, Tolerance::Count(0), &["gggg", "gggg"]);
    assert_eq!((judgement.verdict, judgement.detection_ms), (Verdict::Passed, None));
    assert_eq!(judgement.recovery_ms, Some(1_200));
}

#[test]
fn silence_while_a_fault_acts_is_no_pass_however_good_the_waits_were() {
    for seen in [["gggg", "mmmm"], ["gggg", "gg"], ["", "gggg"]] {
        let judgement = judged(TWO, Tolerance::Count(0), &seen);
        assert_eq!(judgement.verdict, Verdict::Inconclusive, "{seen:?}");
        let reason = &judgement.reasons[0];
        let step = if seen[0].is_empty() { "during steps[0]" } else { "during steps[2]" };
        assert!(reason.code == "too_few_samples" && reason.message.contains(step), "{reason:?}");
    }
}

#[test]
fn what_is_tolerated_is_counted_while_the_fault_acts() {
    let tenth = Tolerance::Share(Percent(10.0));
    let judgement = judged(TWO, tenth, &["gggg", "gbbb"]);
    assert_eq!(judgement.verdict, Verdict::Failed);
    let text = format!("{PROBE} was bad in 3 of 4 samples during steps[2]");
    assert_eq!(judgement.reasons[0].message, text);
    assert!(judgement.detection_ms.is_some_and(|ms| ms < 4_000), "{:?}", judgement.detection_ms);
    assert_eq!(
        judged(TWO, Tolerance::Share(Percent(80.0)), &["gggg", "gbbb"]).verdict,
        Verdict::Passed
    );
}

#[test]
fn rounds_of_one_step_count_together() {
    assert_eq!(judged(ROUNDS, Tolerance::Count(0), &["g", "g", "g"]).verdict, Verdict::Passed);
    assert_eq!(judged(ROUNDS, Tolerance::Count(0), &["g", "", "g"]).verdict, Verdict::Inconclusive);
}

#[test]
fn what_is_bad_after_a_fault_and_before_the_next_is_bad_too() {
    let mut story = Story::of(at(TWO, Tolerance::Count(0)));
    story.before("ggggg").acts_alone(0, "gggg").samples(Phase::During, "bbb");
    story.acts_alone(1, "gggg").after("ggg").recovered().clean();
    assert_eq!(story.judgement().verdict, Verdict::Failed);
}

#[test]
fn a_run_that_did_not_come_back_has_no_time_of_recovery() {
    let mut story = Story::of(at(TWO, Tolerance::Count(0)));
    story
        .before("ggggg")
        .acts_alone(0, "gggg")
        .acts_alone(1, "gggg")
        .after("bbb")
        .clean();
    let judgement = story.judgement();
    assert_eq!((judgement.verdict, judgement.recovery_ms), (Verdict::Failed, None));
}
