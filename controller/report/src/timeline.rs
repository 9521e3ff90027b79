//! One line of words per event that a person would want to read; samples and the like have none.

use proto_model::event::{Event, EventBody, StepOutcome};

/// `None` for what is only of interest in numbers.
pub fn timeline(event: &Event) -> Option<String> {
    let text = match &event.body {
        EventBody::RunAccepted { plan, .. } => format!("accepted {} in {}", plan.name, plan.environment),
        EventBody::RunPhase { to, .. } => format!("phase {}", to.as_str()),
        EventBody::HostPreflight {
            host,
            accepted: false,
            refusals,
            ..
        } => {
            let words: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            format!("{host} refuses: {}", words.join("; "))
        }
        EventBody::GuardBroken { guard, consecutive, .. } => format!("guard {guard} broke: {consecutive} bad or missing in a row"),
        EventBody::StepStarted { path, .. } => format!("{path} starts"),
        EventBody::StepEnded { path, outcome } => format!("{path} {}", outcome_word(*outcome)),
        EventBody::InjectionRefused { refusal, .. } => format!("refused: {refusal}"),
        EventBody::InjectionApplied { id, .. } => format!("{id} acts"),
        EventBody::InjectionEnding { id, ending } => format!("{id} ends: {}", ending.ended_by.as_str()),
        EventBody::InjectionUndone { id, undone } => format!("{id} undone by {} in {} ms", undone.undone_by, undone.undo_ms),
        EventBody::InjectionUndoFailed { id, failed } => format!("{id} could not be undone (attempt {}): {}", failed.attempt, failed.error),
        EventBody::HostLost { host, .. } => format!("{host} lost"),
        EventBody::HostReturned { host, rebooted, .. } => format!("{host} is back{}", if *rebooted { " after a reboot" } else { "" }),
        EventBody::StopRequested { reason, .. } => format!("stop: {reason}"),
        EventBody::HostVerified { host, proof } => format!("{host} is {}", proof.result.as_str()),
        EventBody::HypothesisRecovered { probe, recovery_ms } => format!("{probe} recovered after {recovery_ms} ms"),
        EventBody::RunJudged { verdict, cleanup, .. } => format!("verdict {}, cleanup {}", verdict.as_str(), cleanup.as_str()),
        EventBody::RunAmended { cleanup, cause, .. } => format!("cleanup is now {}: {cause}", cleanup.as_str()),
        EventBody::NoteAdded { text } => format!("note: {text}"),
        _ => return None,
    };
    Some(text)
}

fn outcome_word(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Done => "done",
        StepOutcome::Failed => "failed",
        StepOutcome::Cancelled => "cancelled",
        StepOutcome::Skipped => "skipped",
    }
}
