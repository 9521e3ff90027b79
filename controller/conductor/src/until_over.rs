//! Waiting until a run, or one of its injections, is on record as over.

use proto_model::event::{Event, EventBody};
use proto_model::id::{InjectionId, RunId};
use proto_model::reading::Milestone;
use tokio::sync::broadcast;

/// Until the run, or the one injection, is reported to be over.
pub(crate) async fn until_over(mut news: broadcast::Receiver<Event>, run: &RunId, id: Option<&InjectionId>) {
    loop {
        let event = match news.recv().await {
            Ok(event) => event,
            // Too far behind to know: the record is asked.
            Err(_) => return,
        };
        let ended = |id: &InjectionId| ends(&event.body) == Some(id);
        let verifying = matches!(event.body.milestone(), Some(Milestone::Verifying | Milestone::Finished));
        let over = &event.run_id == run && (verifying || id.is_some_and(ended));
        if over {
            return;
        }
    }
}

/// The injection of which nothing acts any more from this event on. Every event by name, so that a new one is decided here too.
pub(crate) fn ends(body: &EventBody) -> Option<&InjectionId> {
    match body {
        EventBody::InjectionUndone { id, .. } | EventBody::InjectionSpent { id, .. } => Some(id),
        EventBody::RunAccepted { .. }
        | EventBody::RunPhase { .. }
        | EventBody::HostPreflight { .. }
        | EventBody::ProbeSampled { .. }
        | EventBody::GuardBroken { .. }
        | EventBody::StepStarted { .. }
        | EventBody::StepEnded { .. }
        | EventBody::InjectionOrdered { .. }
        | EventBody::InjectionWithdrawn { .. }
        | EventBody::InjectionRefused { .. }
        | EventBody::InjectionApplied { .. }
        | EventBody::InjectionObserved { .. }
        | EventBody::InjectionEnding { .. }
        | EventBody::InjectionUndoFailed { .. }
        | EventBody::ReportsDropped { .. }
        | EventBody::LeaseLapsed { .. }
        | EventBody::HostLost { .. }
        | EventBody::HostReturned { .. }
        | EventBody::StopRequested { .. }
        | EventBody::HostVerified { .. }
        | EventBody::ControllerRestarted { .. }
        | EventBody::HypothesisRecovered { .. }
        | EventBody::RunJudged { .. }
        | EventBody::RunAmended { .. }
        | EventBody::NoteAdded { .. } => None,
    }
}
