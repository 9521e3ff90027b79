//! Faults side by side: what cannot hold twice on one host is denied where that shows in the plan. The host sees the rest.

use proto_model::steps::{Moment, may_overlap};

use crate::denial::Denial;

/// The same fault with the same parameters on one host, in two branches: it would hold the same thing twice.
pub(crate) fn check(moment: &Moment<'_>) -> Result<(), Denial> {
    for (at, (path, step)) in moment.faults.iter().enumerate() {
        for (other_path, other) in &moment.faults[..at] {
            if !may_overlap(path, other_path) || step.fault != other.fault || step.params != other.params {
                continue;
            }
            let mut both = step.injections.iter().filter(|i| other.injections.iter().any(|o| o.host == i.host));
            if let Some(shared) = both.next() {
                let message = format!("{} on {} is injected by {other_path} at the same time", step.fault, shared.host);
                return Err(Denial::new(
                    "conflict",
                    *path,
                    message,
                    "other hosts or other parameters in each branch",
                ));
            }
        }
    }
    Ok(())
}
