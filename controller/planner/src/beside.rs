//! Faults side by side: what cannot hold twice on one host is refused where that shows in the plan. The host sees the rest.

use proto_model::problem::Problem;
use proto_model::steps::{Moment, may_overlap};

use crate::refusal::PlanRefusal;

/// The same fault with the same parameters on one host, in two branches: it would hold the same thing twice.
pub(crate) fn check(moment: &Moment<'_>) -> Result<(), PlanRefusal> {
    for (at, (path, step)) in moment.faults.iter().enumerate() {
        for (other_path, other) in &moment.faults[..at] {
            if !may_overlap(path, other_path) || step.fault != other.fault || step.params != other.params {
                continue;
            }
            let mut both = step.injections.iter().filter(|i| other.injections.iter().any(|o| o.host == i.host));
            if let Some(shared) = both.next() {
                let message = format!("{} on {} is injected by {other_path} at the same time", step.fault, shared.host);
                let problem = Problem::new(*path, message).allowed("other hosts or other parameters in each branch");
                return Err(PlanRefusal::problem("conflict", problem));
            }
        }
    }
    Ok(())
}
