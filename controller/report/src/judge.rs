//! How a run is judged: every rule that matches is a reason, the first one is the verdict. What was not seen never counts as good.

use proto_model::event::Event;
use proto_model::exit;
use proto_model::plan::Origin;
use proto_model::probe::{Phase, ProbeRole, SampleResult};
use proto_model::verdict::{Cleanup, Reason, RunEndedBy, Verdict};

use crate::history::History;
use crate::rules;
use crate::samples::{Standing, standing};

/// Grows when the same history would be judged differently.
pub const JUDGE_VERSION: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub cleanup: Cleanup,
    pub exit_code: u8,
    pub ended_by: RunEndedBy,
    pub reasons: Vec<Reason>,
    /// From the newest effect to the first sign that a probe or a guard gave of it; none when nothing broke.
    pub detection_ms: Option<u64>,
    /// Of the slowest probe, from the last undo; none unless every probe came back.
    pub recovery_ms: Option<u64>,
}

/// Judges a run whose time for proofs is over. `None` when the events do not tell of a run.
pub fn judge(events: &[Event]) -> Option<Judgement> {
    let history = History::of(events)?;
    let cleanup = history.cleanup();
    let rules: [(Verdict, Vec<Reason>); 5] = [
        (Verdict::Error, rules::unclean(&history, cleanup)),
        (Verdict::Failed, rules::broken(&history)),
        (Verdict::Error, rules::not_carried_out(&history)),
        (Verdict::Aborted, rules::cut_short(&history)),
        (Verdict::Inconclusive, rules::undecided(&history)),
    ];
    let verdict = rules
        .iter()
        .find(|(_, reasons)| !reasons.is_empty())
        .map_or(Verdict::Passed, |(verdict, _)| *verdict);
    let reasons: Vec<Reason> = rules.into_iter().flat_map(|(_, reasons)| reasons).collect();
    Some(Judgement {
        verdict,
        cleanup,
        exit_code: exit_code(&history, verdict, cleanup, &reasons),
        ended_by: ended_by(&history),
        detection_ms: detection(&history),
        recovery_ms: recovery(&history),
        reasons,
    })
}

fn ended_by(history: &History) -> RunEndedBy {
    match &history.stop {
        Some((cause, _)) => cause.ended_by(),
        None if history.restarted => RunEndedBy::ControllerRestart,
        None => RunEndedBy::Completed,
    }
}

/// An attack that asked nothing of the system has done what was asked of it when every effect is confirmed and every host clean.
fn exit_code(history: &History, verdict: Verdict, cleanup: Cleanup, reasons: &[Reason]) -> u8 {
    let asked_nothing = history.plan.origin == Origin::Attack && history.plan.hypothesis.is_none();
    let only_that = verdict == Verdict::Inconclusive && reasons.iter().all(|r| r.code == rules::NO_HYPOTHESIS);
    if asked_nothing && only_that && cleanup == Cleanup::Proven {
        return exit::OK;
    }
    exit::of_run(verdict, cleanup)
}

fn recovery(history: &History) -> Option<u64> {
    let probes = history.plan.hypothesis.iter().flat_map(|hypothesis| &hypothesis.probes);
    let each: Option<Vec<u64>> = probes.map(|probe| history.recovered.get(&probe.name).copied()).collect();
    each?.into_iter().max()
}

/// The first sign is a guard that breaks or the end of the first bad sample of a probe that broke, whichever comes first.
fn detection(history: &History) -> Option<u64> {
    let probes = history.plan.hypothesis.iter().flat_map(|hypothesis| &hypothesis.probes);
    let broke: Vec<&str> = probes
        .filter(|probe| standing(history, probe, Phase::During) == Standing::Broke)
        .map(|probe| probe.name.as_str())
        .collect();
    let bad = history
        .samples
        .iter()
        .filter(|(phase, role, sample)| *phase == Phase::During && *role == ProbeRole::Hypothesis && broke.contains(&sample.probe.as_str()))
        .filter(|(_, _, sample)| sample.result == SampleResult::Bad)
        .map(|(_, _, sample)| sample.started_at.plus_ms(sample.took_ms));
    let sign = bad.chain(history.guard_broken.iter().map(|(_, at)| *at)).min()?;
    let effect = history
        .injections
        .iter()
        .filter_map(|i| i.applied_at)
        .filter(|at| *at <= sign)
        .max()?;
    Some(sign.since(effect))
}
