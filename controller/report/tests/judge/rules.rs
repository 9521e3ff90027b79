//! Each rule with the history that it is for: verdict, exit code, end, and the reason that carries it.

use controller_report::{fold, markdown};
use proto_model::event::{EventBody, RunPhase};
use proto_model::host::PRODUCTION;
use proto_model::injection::{CleanProof, EffectState, EndedBy};
use proto_model::probe::{Phase, Tolerance};
use proto_model::quantity::Percent;
use proto_model::verdict::{Cleanup, RunEndedBy, Verdict};

use crate::story::{Story, plan, probe};
use crate::{broken, cut};

/// Name, history, verdict, exit code, end, reasons in their order.
pub type Row = (&'static str, fn(&mut Story), Verdict, u8, RunEndedBy, &'static [&'static str]);

pub fn dirty() -> CleanProof {
    CleanProof::of(vec!["group fracas-1".into()], vec![], vec![], vec![], "b")
}

/// A row tells its story and returns nothing.
pub fn drop_ref(_: &mut Story) {}

#[test]
fn the_recovery_of_a_run_is_that_of_its_slowest_probe() {
    let mut planned = plan(&["web"], Some(Tolerance::Count(0)));
    let mut slow = probe(Tolerance::Count(0));
    slow.name = "slow".into();
    planned.hypothesis.as_mut().unwrap().probes.push(slow);
    let mut story = Story::of(planned);
    story.before("ggggg").acting().samples(Phase::During, "ggggg");
    story.undone(EndedBy::DurationElapsed).after("ggg").recovered();
    assert_eq!(story.judgement().recovery_ms, None, "one of two probes has not come back");
    story.push(EventBody::HypothesisRecovered {
        probe: "slow".into(),
        recovery_ms: 9_000,
    });
    assert_eq!(story.judgement().recovery_ms, Some(9_000));
}

#[test]
fn every_rule_says_what_it_is_for() {
    for (name, tell, verdict, exit, ended_by, reasons) in broken::ROWS.iter().chain(cut::ROWS) {
        let mut story = Story::experiment();
        tell(&mut story);
        let judgement = story.judgement();
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
    let judgement = story.judgement();
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
    assert_eq!(unseen.judgement().exit_code, 11);
    let mut dirtied = Story::attack();
    dirtied.preflight(None).acting().undone(EndedBy::DurationElapsed).proven(dirty());
    assert_eq!(dirtied.judgement().exit_code, 8);
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
    let judgement = story.judgement();
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
        assert_eq!(story.judgement().verdict, verdict, "{tolerate:?} {letters}");
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
    let judgement = story.judgement();
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
        "cpu.burn on web acts, applied in 3 ms",
        "cpu.burn on web undone in 40 ms by agent",
        "judged failed, cleanup proven",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
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
    let j = story.judgement();
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
