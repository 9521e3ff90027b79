//! Guards where nobody may be hurt and where nobody watches: there is one, and it notices while the fault still acts.

use proto_model::plan::Plan;
use proto_model::quantity::Millis;

use crate::denial::Denial;
use crate::owner::Policy;

/// The longest that the quickest guard may take, at worst, to stop a run.
const SLOWEST_MS: u64 = 60_000;

/// In production a run needs a guard, and so does one that nobody watches; the quickest of its guards has to be quick enough.
pub(crate) fn check(plan: &Plan, policy: &Policy) -> Result<(), Denial> {
    let is_production = policy.is_production(&plan.environment);
    let (code, what) = match (is_production, plan.origin.is_unattended()) {
        (true, _) => ("policy", format!("a run in {}", plan.environment)),
        (false, true) => ("unattended", "an unattended run".to_owned()),
        (false, false) => return Ok(()),
    };
    let Some(quickest) = plan.guards.iter().min_by_key(|guard| guard.worst_reaction_ms()) else {
        return Err(Denial::new(
            code,
            "guards",
            format!("{what} needs a guard, and this has 0"),
            "1 or more guards, or a probe of an attack",
        ));
    };
    let worst = quickest.worst_reaction_ms();
    let shortest = plan.fault_steps().map(|(path, step)| (step.duration_ms, path)).min();
    let most = shortest.map_or(SLOWEST_MS, |(ms, _)| SLOWEST_MS.min(ms / 2));
    if worst <= most {
        return Ok(());
    }
    let while_acting = shortest
        .map(|(ms, path)| format!(", and the shortest fault, {path}, lasts {}", Millis(ms)))
        .unwrap_or_default();
    let message = format!(
        "{what} needs a guard that stops it in time: {}, the quickest, takes {} at worst ({} times {} and a timeout of {}){while_acting}",
        quickest.name,
        Millis(worst),
        quickest.breaks,
        Millis(quickest.every_ms),
        Millis(quickest.timeout_ms),
    );
    let allowed = format!(
        "..{}: at most {} and at most half of the shortest fault",
        Millis(most),
        Millis(SLOWEST_MS)
    );
    Err(Denial::new(code, "guards", message, allowed))
}
