//! Whether the hypothesis can be decided: every fault has to act for as long as its probes need for their samples.

use std::collections::BTreeMap;

use proto_model::plan::{Hypothesis, Plan};
use proto_model::probe::MIN_SAMPLES;
use proto_model::problem::Problem;
use proto_model::quantity::Millis;
use proto_model::steps::as_written;

use crate::refusal::PlanRefusal;

/// How a fault acts, over all rounds of its step.
struct Acts {
    ms: u64,
    rounds: u64,
}

/// Samples are judged by the step as it is written, so the rounds of a repeated one count together.
pub(crate) fn check(plan: &Plan) -> Result<(), PlanRefusal> {
    let Some(hypothesis) = &plan.hypothesis else { return Ok(()) };
    let mut steps: BTreeMap<String, Acts> = BTreeMap::new();
    for (path, step) in plan.fault_steps() {
        let acts = steps.entry(as_written(path)).or_insert(Acts {
            ms: step.duration_ms,
            rounds: 0,
        });
        acts.rounds += 1;
    }
    steps.iter().try_for_each(|(path, acts)| long_enough(path, acts, hypothesis))
}

fn long_enough(path: &str, acts: &Acts, hypothesis: &Hypothesis) -> Result<(), PlanRefusal> {
    let Some(slowest) = hypothesis.probes.iter().max_by_key(|probe| probe.every_ms) else {
        return Ok(());
    };
    let needed = u64::from(MIN_SAMPLES);
    // However the beat of a probe falls, a time of n intervals holds n of its samples.
    let samples = (acts.ms / slowest.every_ms.max(1)).saturating_mul(acts.rounds);
    if samples >= needed {
        return Ok(());
    }
    let shortest = Millis(slowest.every_ms * needed.div_ceil(acts.rounds.max(1)));
    let message = format!(
        "{} is too short to decide probe {}: it is asked every {}, and a fault has to act for {needed} samples",
        Millis(acts.ms),
        slowest.name,
        Millis(slowest.every_ms)
    );
    let problem = Problem::new(format!("{path}.duration"), message).allowed(format!("{shortest}.."));
    Err(PlanRefusal::problem("limit", problem))
}
