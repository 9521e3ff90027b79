//! Whether the system came back after what a run had injected was over: beside the verdict, and never instead of it.

use proto_model::document::{AnswerDocument, ProbeRecoveryDocument, RecoveryDocument, RecoveryState};
use proto_model::event::RunPhase;
use proto_model::probe::{ProbeSpec, Prober};

use crate::samples::Answers;
use crate::state::RunState;

impl RunState {
    /// Whether every prober of the probe had its good samples in a row after the last undo.
    pub fn has_recovered(&self, probe: &ProbeSpec) -> bool {
        let probers = match &probe.from {
            Prober::Controller => 1,
            Prober::Hosts(hosts) => hosts.len(),
        };
        self.answers(probe).filter(|answers| answers.recovered).count() == probers
    }

    /// From the last undo to the end of the last bad sample.
    pub fn recovery_ms(&self, probe: &ProbeSpec) -> Option<u64> {
        let (undo, bad) = (
            self.totals.last_ended?,
            self.answers(probe).filter_map(|answers| answers.last_bad_end).max(),
        );
        self.has_recovered(probe).then(|| bad.map_or(0, |bad| bad.since(undo)))
    }

    fn answers(&self, probe: &ProbeSpec) -> impl Iterator<Item = &Answers> {
        self.samples.answers(probe.role, &probe.name)
    }
}

/// `None` when nothing was injected, or nothing was asked of the system.
pub(crate) fn recovery(state: &RunState) -> Option<RecoveryDocument> {
    state.totals.first_applied?;
    let probes: Vec<ProbeRecoveryDocument> = state.plan.probes().map(|probe| probe_recovery(state, probe)).collect();
    if probes.is_empty() {
        return None;
    }
    let each: Option<Vec<u64>> = probes.iter().map(|probe| probe.recovery_ms).collect();
    let after_ms = each.and_then(|each| each.into_iter().max());
    let outcome = match after_ms {
        Some(_) => RecoveryState::Recovered,
        None if state.phase == RunPhase::Finished || state.judged.is_some() => RecoveryState::NotRecovered,
        None => RecoveryState::Pending,
    };
    Some(RecoveryDocument {
        state: outcome,
        after_ms,
        probes,
    })
}

fn probe_recovery(state: &RunState, probe: &ProbeSpec) -> ProbeRecoveryDocument {
    // What keeps the probe from having recovered speaks for it, else the newest answer.
    let last = state
        .answers(probe)
        .max_by_key(|answers| (!answers.recovered, answers.last.started_at));
    ProbeRecoveryDocument {
        name: probe.name.clone(),
        role: probe.role,
        recovery_ms: state.recovery_ms(probe),
        last: last.map(|answers| AnswerDocument {
            prober: answers.last.prober.clone(),
            at: answers.last.started_at,
            result: answers.last.result,
            value: answers.last.value,
            unit: answers.last.unit.clone(),
            error: answers.last.error.clone(),
        }),
    }
}
