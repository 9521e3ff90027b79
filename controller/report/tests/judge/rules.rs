//! Each rule with the history that it is for: verdict, exit code, end, and the reason that carries it.

use controller_report::{fold, judge, markdown, timeline};
use proto_model::event::{EventBody, RunPhase, StopCause};
use proto_model::host::PRODUCTION;
use proto_model::injection::{CleanProof, EffectState, EndedBy};
use proto_model::probe::{Phase, Tolerance};
use proto_model::problem::Refusal;
use proto_model::quantity::Percent;
use proto_model::verdict::{Cleanup, RunEndedBy, Verdict};

use crate::story::{Story, plan, probe};

/// Name, history, verdict, exit code, end, reasons in their order.
type Row = (&'static str, fn(&mut Story), Verdict, u8, RunEndedBy, &'static [&'static str]);

fn dirty() -> CleanProof {
    CleanProof::of(vec!["group fracas-1".into()], vec![], vec![], vec![], "b")
}

const ROWS: &[Row] = &[
    (
        "steady throughout",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Passed,
        0,
        RunEndedBy::Completed,
        &[],
    ),
    (
        "dirty",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .proven(dirty()),
            )
        },
        Verdict::Error,
        8,
        RunEndedBy::Completed,
        &["host_dirty"],
    ),
    (
        "unproven beats failed",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "gbbbb")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .proven(CleanProof::unproven()),
            )
        },
        Verdict::Error,
        8,
        RunEndedBy::Completed,
        &["cleanup_unproven", "hypothesis_broke"],
    ),
    (
        "never asked for its proof",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered(),
            )
        },
        Verdict::Error,
        8,
        RunEndedBy::Completed,
        &["cleanup_unproven"],
    ),
    (
        "broke under a confirmed effect",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "gbbbg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Failed,
        6,
        RunEndedBy::Completed,
        &["hypothesis_broke"],
    ),
    (
        "one bad sample is one too many",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggb")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Failed,
        6,
        RunEndedBy::Completed,
        &["hypothesis_broke"],
    ),
    (
        "did not recover",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("bbbgbgb")
                    .clean(),
            )
        },
        Verdict::Failed,
        6,
        RunEndedBy::Completed,
        &["not_recovered"],
    ),
    (
        "broke, then a guard ended it",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "gbbb")
                    .stop(StopCause::Guard)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Failed,
        6,
        RunEndedBy::Guard,
        &["hypothesis_broke", "guard_broke"],
    ),
    (
        "broke, then a person ended it",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "gbbb")
                    .stop(StopCause::Operator)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Failed,
        6,
        RunEndedBy::Operator,
        &["hypothesis_broke", "stopped"],
    ),
    (
        "refused in preflight",
        |s| {
            drop_ref(
                s.preflight(Some(Refusal::new("policy", "", "no")))
                    .stop(StopCause::Failure)
                    .phase(RunPhase::Verifying),
            )
        },
        Verdict::Error,
        1,
        RunEndedBy::Failure,
        &["refused"],
    ),
    (
        "refused when ordered",
        |s| drop_ref(s.before("ggggg").order().refused("policy").stop(StopCause::Failure).clean()),
        Verdict::Error,
        1,
        RunEndedBy::Failure,
        &["refused"],
    ),
    (
        "not applied",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .undone(EndedBy::ApplyFailed)
                    .stop(StopCause::Failure)
                    .clean(),
            )
        },
        Verdict::Error,
        1,
        RunEndedBy::Failure,
        &["apply_failed"],
    ),
    (
        "ended early",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .undone(EndedBy::EndedEarly)
                    .stop(StopCause::Failure)
                    .clean(),
            )
        },
        Verdict::Error,
        1,
        RunEndedBy::Failure,
        &["ended_early"],
    ),
    (
        "a plan that was not followed",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::Failure)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Error,
        1,
        RunEndedBy::Failure,
        &["not_followed"],
    ),
    (
        "an injection that nobody ended",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Error,
        1,
        RunEndedBy::Completed,
        &["not_carried_out"],
    ),
    (
        "stopped by a person",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::Operator)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Operator,
        &["stopped"],
    ),
    (
        "halted",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::Halt)
                    .undone(EndedBy::Halt)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Halt,
        &["halted"],
    ),
    (
        "halted while it was ordered",
        |s| drop_ref(s.before("ggggg").order().refused("halted").stop(StopCause::Halt).clean()),
        Verdict::Aborted,
        7,
        RunEndedBy::Halt,
        &["halted"],
    ),
    (
        "a guard",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::Guard)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Guard,
        &["guard_broke"],
    ),
    (
        "its own limit",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::Limit)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Limit,
        &["limit"],
    ),
    (
        "a lost host that came back clean",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::HostLost)
                    .undone(EndedBy::LeaseLost)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::HostLost,
        &["host_lost", "lease_lost"],
    ),
    (
        "a controller restart",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .push(EventBody::ControllerRestarted { down_ms: 9 })
                    .stop(StopCause::ControllerRestart)
                    .undone(EndedBy::LeaseLost)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::ControllerRestart,
        &["controller_restart", "lease_lost"],
    ),
    (
        "a restart while it was proven",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean()
                    .push(EventBody::ControllerRestarted { down_ms: 9 }),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::ControllerRestart,
        &["controller_restart"],
    ),
    (
        "ended by the guardian, nobody stopped it",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .undone(EndedBy::Guardian)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Completed,
        &["agent_lost"],
    ),
    (
        "ended by the kernel, nobody stopped it",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .undone(EndedBy::KernelExpiry)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Completed,
        &["lease_lost"],
    ),
    (
        "an unsteady baseline",
        |s| drop_ref(s.before("gbggg").stop(StopCause::Baseline).phase(RunPhase::Verifying)),
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["baseline_not_steady"],
    ),
    (
        "a baseline that nobody saw",
        |s| drop_ref(s.before("mmmmm").stop(StopCause::Baseline).phase(RunPhase::Verifying)),
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["too_few_samples"],
    ),
    (
        "too many missing",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "gggmgmg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["too_few_samples"],
    ),
    (
        "a fifth missing is still enough",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggm")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Passed,
        0,
        RunEndedBy::Completed,
        &[],
    ),
    (
        "nobody saw it recover",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("bbmmmmmmmm")
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["too_few_samples"],
    ),
    (
        "broke with no confirmed effect",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(false)
                    .windows("uu")
                    .samples(Phase::During, "gbbbg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["broke_unconfirmed", "effect_unexercised"],
    ),
    (
        "a mismatch",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(false)
                    .windows("cccm")
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["effect_mismatch"],
    ),
    (
        "one mismatch in six is none",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(false)
                    .windows("cccccm")
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Passed,
        0,
        RunEndedBy::Completed,
        &[],
    ),
    (
        "never observed",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(false)
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["effect_unknown"],
    ),
    (
        "every injection was a no-op",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(true)
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["all_noop"],
    ),
    (
        "an irreversible deed that was done",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(false)
                    .samples(Phase::During, "ggggg")
                    .spent()
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Passed,
        0,
        RunEndedBy::Completed,
        &[],
    ),
];

fn drop_ref(_: &mut Story) {}

#[test]
fn every_rule_says_what_it_is_for() {
    for (name, tell, verdict, exit, ended_by, reasons) in ROWS {
        let mut story = Story::experiment();
        tell(&mut story);
        let judgement = judge(&story.events).unwrap();
        let codes: Vec<&str> = judgement.reasons.iter().map(|r| r.code.as_str()).collect();
        assert_eq!(judgement.verdict, *verdict, "{name}: {:?}", judgement.reasons);
        assert_eq!(codes, *reasons, "{name}");
        assert_eq!(judgement.exit_code, *exit, "{name}");
        assert_eq!(judgement.ended_by, *ended_by, "{name}");
        assert!(judgement.reasons.iter().all(|r| !r.message.is_empty()), "{name}");
    }
}

#[test]
fn a_plain_attack_is_no_evidence_and_has_done_what_was_asked() {
    let mut story = Story::attack();
    story.preflight(None).acting().undone(EndedBy::DurationElapsed).clean();
    let judgement = judge(&story.events).unwrap();
    assert_eq!((judgement.verdict, judgement.exit_code), (Verdict::Inconclusive, 0));
    assert_eq!(judgement.reasons[0].code, "no_hypothesis");

    let mut unseen = Story::attack();
    unseen
        .preflight(None)
        .order()
        .applied(false)
        .windows("uu")
        .undone(EndedBy::DurationElapsed)
        .clean();
    assert_eq!(judge(&unseen.events).unwrap().exit_code, 11);
    let mut dirtied = Story::attack();
    dirtied.preflight(None).acting().undone(EndedBy::DurationElapsed).proven(dirty());
    assert_eq!(judge(&dirtied.events).unwrap().exit_code, 8);
}

#[test]
fn one_host_of_two_that_is_not_clean_is_named() {
    let mut story = Story::of(plan(&["web", "cache"], Some(Tolerance::Count(0))));
    story
        .before("ggggg")
        .acting()
        .samples(Phase::During, "ggg")
        .undone(EndedBy::DurationElapsed)
        .after("ggg")
        .recovered()
        .clean();
    story.push(EventBody::HostVerified {
        host: crate::story::host("cache"),
        proof: dirty(),
    });
    let judgement = judge(&story.events).unwrap();
    assert_eq!((judgement.verdict, judgement.cleanup), (Verdict::Error, Cleanup::Dirty));
    assert_eq!(judgement.reasons[0].host, Some(crate::story::host("cache")));
    assert!(
        judgement.reasons[0].message.contains("group fracas-1"),
        "{}",
        judgement.reasons[0].message
    );
}

#[test]
fn tolerance_is_of_the_samples_that_were_answered() {
    for (tolerate, letters, verdict) in [
        (Tolerance::Share(Percent(20.0)), "ggggb", Verdict::Passed),
        (Tolerance::Share(Percent(19.0)), "ggggb", Verdict::Failed),
        (Tolerance::Count(2), "gggbb", Verdict::Passed),
        (Tolerance::Count(1), "gggbb", Verdict::Failed),
    ] {
        let mut story = Story::of(plan(&["web"], Some(tolerate)));
        story
            .before("ggggg")
            .acting()
            .samples(Phase::During, letters)
            .undone(EndedBy::DurationElapsed)
            .after("ggg")
            .recovered()
            .clean();
        assert_eq!(judge(&story.events).unwrap().verdict, verdict, "{tolerate:?} {letters}");
    }
    assert_eq!(probe(Tolerance::Count(0)).breaks, 3);
}

#[test]
fn the_document_tells_the_same_story() {
    let mut story = Story::experiment();
    story
        .before("ggggg")
        .acting()
        .samples(Phase::During, "gbbbg")
        .undone(EndedBy::DurationElapsed)
        .after("bggg")
        .recovered()
        .clean();
    let judgement = judge(&story.events).unwrap();
    assert_eq!(judgement.recovery_ms, Some(1_200));
    assert!(judgement.detection_ms.is_some_and(|ms| ms > 0));
    story.push(EventBody::RunJudged {
        verdict: judgement.verdict,
        cleanup: judgement.cleanup,
        exit_code: judgement.exit_code,
        ended_by: judgement.ended_by,
        reasons: judgement.reasons,
        detection_ms: judgement.detection_ms,
        recovery_ms: judgement.recovery_ms,
        judge_version: 1,
    });
    story.phase(RunPhase::Finished);
    let run = fold(&story.events).unwrap();
    assert_eq!(
        (run.verdict, run.exit_code, run.state),
        (Some(Verdict::Failed), Some(6), RunPhase::Finished)
    );
    assert_eq!(run.steps[0].title, "cpu.burn on web for 10s");
    assert_eq!(run.steps[0].state, "done");
    assert_eq!(run.injections[0].effect.state, EffectState::Confirmed);
    assert_eq!((run.injections[0].undo_ms, run.injections[0].error.clone()), (Some(40), None));
    let held: Vec<_> = run.probes.iter().map(|p| (p.phase, p.bad, p.held)).collect();
    assert_eq!(
        held,
        [
            (Phase::Before, 0, Some(true)),
            (Phase::During, 3, Some(false)),
            (Phase::After, 1, Some(true))
        ]
    );
    let text = markdown(&story.events);
    for part in [
        "trial: failed",
        "hypothesis_broke",
        "cpu.burn on web",
        "| web | clean | none | none |",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(story.events.iter().filter_map(timeline).count() > 8);
    assert_ne!(run.environment, PRODUCTION);
}

#[test]
fn a_late_proof_amends_the_cleanup_and_never_the_verdict() {
    let mut story = Story::experiment();
    story
        .before("ggggg")
        .acting()
        .undone(EndedBy::DurationElapsed)
        .proven(CleanProof::unproven());
    let j = judge(&story.events).unwrap();
    let (verdict, cleanup, exit_code, ended_by) = (j.verdict, j.cleanup, j.exit_code, j.ended_by);
    story.push(EventBody::RunJudged {
        verdict,
        cleanup,
        exit_code,
        ended_by,
        reasons: j.reasons,
        detection_ms: None,
        recovery_ms: None,
        judge_version: 1,
    });
    story.phase(RunPhase::Finished);
    let web = crate::story::host("web");
    story.push(EventBody::HostVerified {
        host: web.clone(),
        proof: CleanProof::of(vec![], vec![], vec![], vec![], "b"),
    });
    story.push(EventBody::RunAmended {
        cleanup: Cleanup::Proven,
        hosts: vec![web],
        cause: "it came back".into(),
    });
    let run = fold(&story.events).unwrap();
    assert_eq!(
        (run.verdict, run.cleanup, run.exit_code),
        (Some(Verdict::Error), Cleanup::Proven, Some(8))
    );
    assert_eq!(run.hosts[0].residue, Vec::<String>::new());
}
