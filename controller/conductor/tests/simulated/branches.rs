//! Steps at the same time and in rounds, steps that go on after a failure, and room that is counted again as each step starts.

use controller_conductor::Action;
use proto_model::event::{EventBody, StepOutcome};
use proto_model::injection::{EndedBy, InjectionState};
use proto_model::plan::{Plan, PlannedStep, StepBody};
use proto_model::probe::{Phase, SampleResult};
use proto_model::verdict::{Cleanup, RunEndedBy, Verdict};

use crate::fleet::{START, Sim};
use crate::laws::Ended;
use crate::plans::{PROBE, experiment, fault, going_on, host, in_order, parallel, wait};

/// A long branch, a short one, and one of a wait and a fault; then one more step.
fn branches() -> Plan {
    let third = in_order(vec![wait(0, 4_000), fault(1, &["db"], 12_000)]);
    let branches = parallel(0, vec![fault(0, &["web"], 30_000), fault(0, &["cache"], 10_000), third]);
    experiment(&["web", "cache", "db"], vec![branches, fault(1, &["web"], 10_000)])
}

fn outcomes(ended: &Ended) -> Vec<(String, StepOutcome)> {
    let ends = ended.sim.events.iter().filter_map(|e| match &e.body {
        EventBody::StepEnded { path, outcome } => Some((path.clone(), *outcome)),
        _ => None,
    });
    ends.collect()
}

/// When a step started and ended, in milliseconds of the run.
fn span(ended: &Ended, wanted: &str) -> (i64, i64) {
    let at = |start: bool| {
        let of = |e: &&proto_model::event::Event| match &e.body {
            EventBody::StepStarted { path, .. } => start && path == wanted,
            EventBody::StepEnded { path, .. } => !start && path == wanted,
            _ => false,
        };
        ended.sim.events.iter().find(of).map_or(-1, |e| e.at.0 - START)
    };
    (at(true), at(false))
}

#[test]
fn branches_begin_together_and_the_step_ends_with_the_last() {
    let ended = Sim::new(&branches()).finish(180_000);
    assert_eq!(ended.run.verdict, Some(Verdict::Passed), "{:?}", ended.run.reasons);
    let [all, web, cache, third, waits, db, last] = [
        "steps[0]",
        "steps[0].parallel[0]",
        "steps[0].parallel[1]",
        "steps[0].parallel[2]",
        "steps[0].parallel[2].steps[0]",
        "steps[0].parallel[2].steps[1]",
        "steps[1]",
    ]
    .map(|path| span(&ended, path));
    assert!(all.0 == web.0 && all.0 == cache.0 && all.0 == third.0 && all.0 == waits.0);
    assert!(waits.1 == db.0 && db.0 - all.0 >= 4_000 && db.1 == third.1 && third.1 < web.1);
    assert!(cache.1 < web.1 && web.1 == all.1 && all.1 == last.0);
    assert!((40_000..42_000).contains(&(last.1 - all.0)), "{all:?} {last:?}");
    assert!(ended.run.steps.iter().all(|step| step.state == "done"), "{:?}", ended.run.steps);
    assert_eq!(ended.run.steps.len(), 7);
}

#[test]
fn during_lasts_until_the_longest_branch_begins_to_end() {
    let mut plan = branches();
    plan.steps.pop();
    // The short branch is undone at about 16 s, the long one at about 36 s.
    let ended = Sim::new(&plan)
        .seeing(|name, ms| {
            if name == PROBE && (25_000..27_000).contains(&ms) {
                SampleResult::Bad
            } else {
                SampleResult::Good
            }
        })
        .finish(180_000);
    assert_eq!(ended.run.verdict, Some(Verdict::Failed), "{:?}", ended.run.reasons);
    let during = ended.run.probes.iter().find(|p| p.phase == Phase::During).unwrap();
    assert!(during.bad == 2 && during.samples >= 27, "{during:?}");
    assert!(
        ended.run.reasons[0].message.contains("steps[0].parallel[0]"),
        "{:?}",
        ended.run.reasons
    );
}

#[test]
fn while_branches_go_on_their_step_shows_the_worst_of_them() {
    let mut sim = Sim::new(&branches());
    sim.until(20_000);
    let run = controller_report::fold(&sim.events).unwrap();
    let state = |path: &str| run.steps.iter().find(|s| s.path == path).unwrap().state.clone();
    assert_eq!(
        (state("steps[0].parallel[0]").as_str(), state("steps[0].parallel[1]").as_str()),
        ("holding", "done")
    );
    assert_eq!((state("steps[0]").as_str(), state("steps[1]").as_str()), ("holding", "pending"));
    sim.finish(180_000);
}

#[test]
fn one_failing_branch_stops_the_others_and_names_itself() {
    let ended = Sim::new(&branches())
        .with("cache", |m| m.ends = EndedBy::EndedEarly)
        .finish(120_000);
    assert_eq!((ended.run.verdict, ended.run.exit_code), (Some(Verdict::Error), Some(1)));
    assert_eq!(ended.codes()[0], "ended_early");
    assert!(ended.sim.elapsed() < 18_000, "web was held on for {} ms", ended.sim.elapsed());
    let outcome = |path: &str| outcomes(&ended).into_iter().find(|(p, _)| p == path).map(|(_, outcome)| outcome);
    assert_eq!(outcome("steps[0].parallel[0]"), Some(StepOutcome::Cancelled));
    assert_eq!(outcome("steps[0].parallel[1]"), Some(StepOutcome::Failed));
    assert_eq!(outcome("steps[0]"), Some(StepOutcome::Failed));
    // Its wait was not over, so that db was never touched.
    assert_eq!(ended.ordered(), 2);
    let db = ended.run.injections.iter().find(|i| i.host == host("db")).unwrap();
    assert_eq!(db.state, InjectionState::Withdrawn);
}

#[test]
fn rounds_follow_each_other_and_each_is_ordered_once() {
    let round = |n: usize| PlannedStep {
        path: format!("steps[0].round[{n}]"),
        ..fault(0, &["web"], 6_000)
    };
    let rounds = PlannedStep {
        path: "steps[0]".into(),
        body: StepBody::Sequence((0..3).map(round).collect()),
    };
    let ended = Sim::new(&experiment(&["web"], vec![rounds])).finish(120_000);
    assert_eq!(ended.run.verdict, Some(Verdict::Passed), "{:?}", ended.run.reasons);
    assert_eq!(ended.ordered(), 3);
    let spans: Vec<(i64, i64)> = (0..3).map(|n| span(&ended, &format!("steps[0].round[{n}]"))).collect();
    assert!(spans.windows(2).all(|w| w[0].1 <= w[1].0), "{spans:?}");
}

#[test]
fn a_step_that_goes_on_holds_its_other_hosts_and_never_passes() {
    for (change, code) in [(EndedBy::ApplyFailed, "apply_failed"), (EndedBy::EndedEarly, "ended_early")] {
        let plan = experiment(
            &["web", "cache"],
            vec![going_on(fault(0, &["web", "cache"], 20_000)), fault(1, &["web"], 10_000)],
        );
        let ended = Sim::new(&plan).with("cache", |m| m.ends = change).finish(120_000);
        assert_eq!(
            (ended.run.verdict, ended.run.exit_code),
            (Some(Verdict::Error), Some(1)),
            "{:?}",
            ended.run.reasons
        );
        assert_eq!(ended.codes()[0], code);
        assert_eq!(ended.run.reasons[0].host, Some(host("cache")));
        assert_eq!(ended.run.ended_by, Some(RunEndedBy::Completed));
        let states: Vec<&str> = ended.run.steps.iter().map(|s| s.state.as_str()).collect();
        assert_eq!(states, ["failed", "done"]);
        let web = ended.run.injections.iter().filter(|i| i.host == host("web"));
        assert!(web.clone().count() == 2 && web.clone().all(|i| i.ended_by == Some(EndedBy::DurationElapsed)));
    }
    let plan = experiment(&["web", "cache"], vec![going_on(fault(0, &["web", "cache"], 20_000))]);
    let refused = Sim::new(&plan)
        .with("cache", |m| m.refuses_order = Some("conflict"))
        .finish(120_000);
    assert_eq!((refused.codes(), refused.run.exit_code), (vec!["refused"], Some(1)));
    let halted = Sim::new(&plan).with("cache", |m| m.refuses_order = Some("halted")).finish(120_000);
    assert_eq!(halted.run.ended_by, Some(RunEndedBy::Halt), "a halt is no failure to go on after");
}

#[test]
fn forty_nine_of_fifty_recovered_is_an_error_that_names_the_fiftieth() {
    let names: Vec<String> = (1..=50).map(|n| format!("web-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for step in [fault(0, &names, 10_000), going_on(fault(0, &names, 10_000))] {
        let plan = experiment(&names, vec![step]);
        let dirty = Sim::new(&plan).with("web-37", |m| m.dirty = true).finish(180_000);
        assert_eq!((dirty.run.verdict, dirty.run.exit_code), (Some(Verdict::Error), Some(8)));
        assert_eq!(
            (dirty.codes(), dirty.run.reasons[0].host.clone()),
            (vec!["host_dirty"], Some(host("web-37")))
        );
        let failed = Sim::new(&plan).with("web-37", |m| m.ends = EndedBy::ApplyFailed).finish(180_000);
        assert_eq!((failed.run.verdict, failed.run.cleanup), (Some(Verdict::Error), Cleanup::Proven));
        assert_eq!(failed.run.reasons[0].host, Some(host("web-37")));
    }
}

#[test]
fn a_step_without_room_is_never_ordered_and_ends_the_run() {
    let mut sim = Sim::new(&branches());
    sim.no_room_for = Some("steps[1]");
    let ended = sim.finish(180_000);
    assert_eq!(
        (ended.run.verdict, ended.run.ended_by),
        (Some(Verdict::Aborted), Some(RunEndedBy::Limit))
    );
    assert_eq!((ended.codes(), ended.run.cleanup), (vec!["limit"], Cleanup::Proven));
    assert!(
        ended.run.reasons[0].message.starts_with("steps[1]: limits.hosts"),
        "{:?}",
        ended.run.reasons
    );
    assert_eq!(ended.ordered(), 3);
    let asked = ended.sim.acts.iter().filter(|(_, a)| matches!(a, Action::Room { .. })).count();
    assert_eq!(asked, 4, "each fault step asks once");
}
