//! What may run while nobody watches: only with a guard, and nothing that cannot be undone unless the owner allows just that.

use proto_model::injection::Reversal;
use proto_model::plan::Plan;

use crate::denial::Denial;
use crate::owner::Policy;

pub fn unattended(plan: &Plan, policy: &Policy) -> Result<(), Denial> {
    if plan.guards.is_empty() {
        return Err(no_guard());
    }
    let environment = &plan.environment;
    let allowed = policy.of(environment).is_some_and(|rules| rules.irreversible_unattended);
    let lasting = plan
        .fault_steps()
        .find(|(_, step)| matches!(step.reversal, Reversal::Irreversible { .. }));
    match lasting {
        Some((path, step)) if !allowed => Err(Denial::new(
            "unattended",
            format!("policy.{environment}.irreversible_unattended"),
            format!("{path}: {} cannot be undone, and nobody watches a scheduled run", step.fault),
            "faults that can be undone; true allows the others",
        )),
        _ => Ok(()),
    }
}

/// The same before there is a plan.
pub fn no_guard() -> Denial {
    Denial::new(
        "unattended",
        "guards",
        "an unattended run needs a guard, and this has 0",
        "1 or more",
    )
}
