//! The report as JSON: the published document `Run`, and nothing beside it.

use proto_model::document::Document;
use proto_model::event::Event;

use crate::fold::fold;

/// Empty when the events do not tell of a run.
pub fn json(events: &[Event]) -> String {
    let document = fold(events).map(|run| Document::new("Run", run));
    document.and_then(|d| serde_json::to_string_pretty(&d).ok()).unwrap_or_default()
}
