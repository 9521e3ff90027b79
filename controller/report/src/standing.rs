//! How a probe stood in each phase of a run, from what was counted.

use std::collections::BTreeMap;

use proto_model::probe::{Phase, ProbeSpec};
use proto_model::steps::as_written;

use crate::samples::{PhaseTally, Standing};
use crate::state::RunState;

/// A hypothesis probe in one phase. After the last undo it holds when it has recovered, and only then.
pub fn standing(state: &RunState, probe: &ProbeSpec, phase: Phase) -> Standing {
    let seen = state.samples.tally(&probe.name, phase);
    match phase {
        Phase::Before => seen.standing(probe),
        Phase::During => during(state, probe).standing,
        Phase::After if state.recovered.contains_key(&probe.name) => Standing::Held,
        Phase::After if seen.enough() => Standing::Broke,
        Phase::After => Standing::Unknown,
    }
}

/// What decides how a probe stood while the run went on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct During {
    pub standing: Standing,
    pub tally: PhaseTally,
    /// The step while which this was seen; none for the whole time from the first effect to the last.
    pub step: Option<String>,
}

/// The whole time, and each step by itself: good samples from a wait say nothing of a fault, so the worst of them counts.
pub fn during(state: &RunState, probe: &ProbeSpec) -> During {
    let whole = (None, state.samples.tally(&probe.name, Phase::During));
    let steps = while_acting(state, &probe.name)
        .into_iter()
        .map(|(step, tally)| (Some(step), tally));
    let all: Vec<During> = [whole]
        .into_iter()
        .chain(steps)
        .map(|(step, tally)| During {
            standing: tally.standing(probe),
            tally,
            step,
        })
        .collect();
    let first = |standing: Standing| all.iter().find(|seen| seen.standing == standing).cloned();
    first(Standing::Broke)
        .or_else(|| first(Standing::Unknown))
        .unwrap_or_else(|| all[0].clone())
}

/// Every step that acted, also one while which no sample began.
fn while_acting(state: &RunState, probe: &str) -> BTreeMap<String, PhaseTally> {
    let applied = state.injections.iter().filter(|i| i.applied_at.is_some());
    let mut steps: BTreeMap<String, PhaseTally> = applied.map(|i| (as_written(&i.injection.step), PhaseTally::default())).collect();
    let seen = state.samples.while_steps_acted(probe);
    steps.extend(seen.map(|(step, tally)| (step.clone(), *tally)));
    steps
}
