//! What an event is to a reader that follows one thing only: the injection it is about, the milestone it marks, whether it may wait.

use crate::event::{EventBody, RunPhase};
use crate::id::{InjectionId, PlanDigest};
use crate::injection::Injection;
use crate::plan::Plan;

/// A point of a run that others wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// Nothing of it acts any more as far as the controller knows; hosts are asked for their proofs.
    Verifying,
    Judged,
    /// Nothing but amendments follows.
    Finished,
}

/// What the first event of a run names it by.
#[derive(Debug, Clone, Copy)]
pub struct AcceptedRun<'a> {
    pub digest: &'a PlanDigest,
    pub plan: &'a Plan,
    pub injections: &'a [Injection],
    pub idempotency_key: Option<&'a str>,
}

enum Class<'a> {
    Accepted(AcceptedRun<'a>),
    Phase(RunPhase),
    Judgement,
    /// A decision or a fact about one injection.
    Injection(&'a InjectionId),
    Observation(&'a InjectionId),
    Sample,
    /// About a step, a host, a guard, a stop, the controller, or in a person's words.
    Other,
}

impl EventBody {
    /// The one injection that the event is about.
    pub fn injection(&self) -> Option<&InjectionId> {
        match self.class() {
            Class::Injection(id) | Class::Observation(id) => Some(id),
            Class::Accepted(_) | Class::Phase(_) | Class::Judgement | Class::Sample | Class::Other => None,
        }
    }

    pub fn milestone(&self) -> Option<Milestone> {
        match self.class() {
            Class::Phase(RunPhase::Verifying) => Some(Milestone::Verifying),
            Class::Phase(RunPhase::Finished) => Some(Milestone::Finished),
            Class::Judgement => Some(Milestone::Judged),
            Class::Accepted(_) | Class::Phase(_) | Class::Injection(_) | Class::Observation(_) | Class::Sample | Class::Other => None,
        }
    }

    /// Measurements: no decision waits for one of them to be durable, so they may be stored in batches.
    pub fn is_telemetry(&self) -> bool {
        match self.class() {
            Class::Observation(_) | Class::Sample => true,
            Class::Accepted(_) | Class::Phase(_) | Class::Judgement | Class::Injection(_) | Class::Other => false,
        }
    }

    /// What a run is made from; no event but the first has it.
    pub fn accepted(&self) -> Option<AcceptedRun<'_>> {
        match self.class() {
            Class::Accepted(run) => Some(run),
            Class::Phase(_) | Class::Judgement | Class::Injection(_) | Class::Observation(_) | Class::Sample | Class::Other => None,
        }
    }

    /// Every event by name, so that a new one does not compile until it has its class.
    fn class(&self) -> Class<'_> {
        match self {
            Self::RunAccepted {
                digest,
                plan,
                injections,
                idempotency_key,
                halt_epoch: _,
            } => Class::Accepted(AcceptedRun {
                digest,
                plan,
                injections,
                idempotency_key: idempotency_key.as_deref(),
            }),
            Self::RunPhase { to, .. } => Class::Phase(*to),
            Self::RunJudged { .. } => Class::Judgement,
            Self::InjectionObserved { id, .. } => Class::Observation(id),
            Self::ProbeSampled { .. } => Class::Sample,
            Self::InjectionOrdered { id, .. }
            | Self::InjectionWithdrawn { id, .. }
            | Self::InjectionRefused { id, .. }
            | Self::InjectionApplied { id, .. }
            | Self::InjectionEnding { id, .. }
            | Self::InjectionUndone { id, .. }
            | Self::InjectionUndoFailed { id, .. }
            | Self::InjectionSpent { id, .. }
            | Self::ReportsDropped { id, .. } => Class::Injection(id),
            Self::HostPreflight { .. }
            | Self::GuardBroken { .. }
            | Self::StepStarted { .. }
            | Self::StepEnded { .. }
            | Self::LeaseLapsed { .. }
            | Self::HostLost { .. }
            | Self::HostReturned { .. }
            | Self::StopRequested { .. }
            | Self::HostVerified { .. }
            | Self::ControllerRestarted { .. }
            | Self::HypothesisRecovered { .. }
            | Self::RunAmended { .. }
            | Self::NoteAdded { .. } => Class::Other,
        }
    }
}
