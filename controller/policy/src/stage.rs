//! When the rules are asked: as a plan is made, as a run is admitted, and as each of its steps starts.

use proto_model::id::RunId;
use proto_model::plan::Plan;
use proto_model::steps::Moment;

/// Who asks. Each stage is held to every rule of the one before it.
#[derive(Debug, Clone, Copy)]
pub enum Stage<'a> {
    /// A plan is made, or a stored one is to be used.
    Planning,
    /// A run of the plan is about to be recorded.
    Admission,
    /// A step of that run is about to be ordered.
    Step { run: &'a RunId, path: &'a str },
}

impl<'a> Stage<'a> {
    /// The run that asks is not counted against itself.
    pub(crate) fn own(self) -> Option<&'a RunId> {
        match self {
            Self::Step { run, .. } => Some(run),
            Self::Planning | Self::Admission => None,
        }
    }

    /// What may act at the same time, as far as it is asked for.
    pub(crate) fn moments(self, plan: &Plan) -> Vec<Moment<'_>> {
        let mut moments = plan.moments();
        if let Self::Step { path, .. } = self {
            moments.retain(|moment| moment.faults.iter().any(|(fault, _)| *fault == path));
        }
        moments
    }
}
