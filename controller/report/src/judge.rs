//! How a run is judged: every rule that matches is a reason, the first one is the verdict. What was not seen never counts as good.

use proto_model::exit;
use proto_model::plan::Origin;
use proto_model::probe::Phase;
use proto_model::verdict::{Cleanup, Reason, RunEndedBy, Verdict};

use crate::rules;
use crate::samples::Standing;
use crate::standing::standing;
use crate::state::RunState;

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

/// Judges a run whose time for proofs is over.
pub fn judge(state: &RunState) -> Judgement {
    let cleanup = state.cleanup();
    let rules: [(Verdict, Vec<Reason>); 5] = [
        (Verdict::Error, rules::unclean(state, cleanup)),
        (Verdict::Failed, rules::broken(state)),
        (Verdict::Error, rules::not_carried_out(state)),
        (Verdict::Aborted, rules::cut_short(state)),
        (Verdict::Inconclusive, rules::undecided(state)),
    ];
    let verdict = rules
        .iter()
        .find(|(_, reasons)| !reasons.is_empty())
        .map_or(Verdict::Passed, |(verdict, _)| *verdict);
    let reasons: Vec<Reason> = rules.into_iter().flat_map(|(_, reasons)| reasons).collect();
    Judgement {
        verdict,
        cleanup,
        exit_code: exit_code(state, verdict, cleanup, &reasons),
        ended_by: ended_by(state),
        detection_ms: detection(state),
        recovery_ms: recovery(state),
        reasons,
    }
}

fn ended_by(state: &RunState) -> RunEndedBy {
    match state.cause_of_stop() {
        Some(cause) => cause.ended_by(),
        None if state.restarted => RunEndedBy::ControllerRestart,
        None => RunEndedBy::Completed,
    }
}

/// An attack that asked nothing of the system has done what was asked of it when every effect is confirmed and every host clean.
fn exit_code(state: &RunState, verdict: Verdict, cleanup: Cleanup, reasons: &[Reason]) -> u8 {
    let asked_nothing = state.plan.origin == Origin::Attack && state.plan.hypothesis.is_none();
    let only_that = verdict == Verdict::Inconclusive && reasons.iter().all(|r| r.code == rules::NO_HYPOTHESIS);
    if asked_nothing && only_that && cleanup == Cleanup::Proven {
        return exit::OK;
    }
    exit::of_run(verdict, cleanup)
}

fn recovery(state: &RunState) -> Option<u64> {
    let probes = state.plan.hypothesis.iter().flat_map(|hypothesis| &hypothesis.probes);
    let each: Option<Vec<u64>> = probes.map(|probe| state.recovered.get(&probe.name).copied()).collect();
    each?.into_iter().max()
}

/// The first sign is a guard that breaks or the end of the first bad sample of a probe that broke, whichever comes first.
fn detection(state: &RunState) -> Option<u64> {
    let probes = state.plan.hypothesis.iter().flat_map(|hypothesis| &hypothesis.probes);
    let broke: Vec<&str> = probes
        .filter(|probe| standing(state, probe, Phase::During) == Standing::Broke)
        .map(|probe| probe.name.as_str())
        .collect();
    let bad = broke.iter().filter_map(|probe| state.samples.first_bad(probe));
    let sign = bad.chain(state.guards_broken.first().map(|broken| broken.at)).min()?;
    let applied = state.injections.iter().filter_map(|i| i.applied_at);
    let effect = applied.filter(|at| *at <= sign).max()?;
    Some(sign.since(effect))
}
