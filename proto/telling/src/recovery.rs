//! The first line of a finished run: whether the system came back after it.

use proto_model::document::{AnswerDocument, ProbeRecoveryDocument, RecoveryDocument, RecoveryState};
use proto_model::probe::SampleResult;

use crate::figures::stretch;

/// `recovered after 4.2 s`, or `NOT RECOVERED` with the last answer of each probe that did not come back.
pub fn recovery_text(recovery: &RecoveryDocument) -> String {
    match (recovery.state, recovery.after_ms) {
        (RecoveryState::Recovered, Some(0)) => "recovered at once".to_owned(),
        (RecoveryState::Recovered, ms) => format!("recovered after {}", stretch(ms.unwrap_or(0))),
        (RecoveryState::Pending, _) => "not known yet".to_owned(),
        (RecoveryState::NotRecovered, _) => {
            let away = recovery.probes.iter().filter(|probe| probe.recovery_ms.is_none());
            format!("NOT RECOVERED: {}", away.map(last_answer).collect::<Vec<_>>().join("; "))
        }
    }
}

/// `checkout-answers bad from the controller (connection refused)`
pub fn last_answer(probe: &ProbeRecoveryDocument) -> String {
    match &probe.last {
        None => format!("{} has no answer", probe.name),
        Some(answer) => {
            let why = answer.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
            format!("{} {} from {}{why}", probe.name, result_word(answer), answer.prober)
        }
    }
}

fn result_word(answer: &AnswerDocument) -> &'static str {
    match answer.result {
        SampleResult::Good => "good",
        SampleResult::Bad => "bad",
        SampleResult::Missing => "missing",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_did_not_come_back_is_named_with_its_last_answer() {
        let recovery = |value| recovery_text(&serde_json::from_value(value).unwrap());
        let probe = |ms: Option<u64>, last| json!({"name": "answers", "role": "hypothesis", "recovery_ms": ms, "last": last});
        let bad = json!({"prober": "controller", "at": "2026-01-01T00:00:00.000Z", "result": "bad", "value": null, "unit": null,
            "error": "connection refused"});
        let came_back = json!({"state": "recovered", "after_ms": 4200, "probes": [probe(Some(4200), bad.clone())]});
        assert_eq!(recovery(came_back), "recovered after 4.2 s");
        let silent = json!({"name": "errors", "role": "guard", "recovery_ms": null, "last": null});
        let away = json!({"state": "not_recovered", "after_ms": null, "probes": [probe(None, bad), silent]});
        assert_eq!(
            recovery(away),
            "NOT RECOVERED: answers bad from the controller (connection refused); errors has no answer"
        );
    }
}
