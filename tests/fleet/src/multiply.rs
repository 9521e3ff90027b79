//! Many finished runs from a real one: copies of a stored run under new ids and earlier times, written through the store's own interface.

use anyhow::{Context, Result, bail};
use controller_store::{SqliteStore, Store, Summaries};
use proto_model::event::{Event, EventBody, NewEvent};
use proto_model::id::{InjectionId, RunId};
use proto_model::summary::RunSummary;
use proto_model::time::Timestamp;
use serde_json::json;

use crate::{Multiply, print};

/// Between two runs.
const APART_MS: i64 = 10 * 60_000;

pub fn run(multiply: &Multiply) -> Result<()> {
    let mut store = SqliteStore::open(&multiply.store).with_context(|| format!("open {}", multiply.store.display()))?;
    let pattern = store.find_run("@last").context("find the run to copy")?;
    let events = store.run_events(&pattern, 1)?;
    let summary = store.summary_of(&pattern)?.context("the run to copy has a summary")?;
    if summary.verdict.is_none() {
        bail!("run {pattern} is not finished; copy one that is");
    }
    // The oldest first, as they would have come.
    for back in (1..=i64::from(multiply.runs)).rev() {
        let copy = Copy::new(&pattern, &events, back * APART_MS);
        let last = copy.events(&events)?;
        let stored = store.append(&copy.run, last)?;
        let seq = stored.last().map_or(0, |event| event.seq);
        store.keep_summary(&copy.run, seq, &copy.summary(&summary)?)?;
    }
    print(&json!({ "runs": multiply.runs, "events": events.len() }))
}

/// One copy: which ids become which, and how much earlier it is.
struct Copy {
    run: RunId,
    ids: Vec<(String, String)>,
    earlier_ms: i64,
}

impl Copy {
    fn new(pattern: &RunId, events: &[Event], earlier_ms: i64) -> Self {
        let run = RunId::generate();
        let mut ids = vec![(pattern.to_string(), run.to_string())];
        for injection in injections(events) {
            ids.push((injection, InjectionId::generate().to_string()));
        }
        // A key belongs to one run.
        ids.extend(idempotency_key(events).map(|key| (key, RunId::generate().to_string())));
        Self { run, ids, earlier_ms }
    }

    fn events(&self, events: &[Event]) -> Result<Vec<NewEvent>> {
        let copied = events.iter().map(|event| {
            let text = self.renamed(&serde_json::to_string(&event.body)?);
            Ok(NewEvent {
                at: self.earlier(event.at),
                by: event.by.clone(),
                source: event.source.clone(),
                body: serde_json::from_str(&text)?,
            })
        });
        copied.collect()
    }

    fn summary(&self, summary: &RunSummary) -> Result<RunSummary> {
        let copied: RunSummary = serde_json::from_str(&self.renamed(&serde_json::to_string(summary)?))?;
        Ok(RunSummary {
            created_at: self.earlier(summary.created_at),
            started_at: summary.started_at.map(|at| self.earlier(at)),
            finished_at: summary.finished_at.map(|at| self.earlier(at)),
            ..copied
        })
    }

    fn renamed(&self, text: &str) -> String {
        self.ids.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
    }

    fn earlier(&self, at: Timestamp) -> Timestamp {
        Timestamp(at.0 - self.earlier_ms)
    }
}

/// The ids of every injection that a run planned.
fn injections(events: &[Event]) -> Vec<String> {
    let accepted = events.iter().filter_map(|event| serde_json::to_value(&event.body).ok());
    let planned = accepted.filter_map(|body| body["injections"].as_array().cloned()).flatten();
    let ids = planned.filter_map(|injection| injection["id"].as_str().map(str::to_owned));
    ids.collect()
}

fn idempotency_key(events: &[Event]) -> Option<String> {
    events.iter().find_map(|event| match &event.body {
        EventBody::RunAccepted { idempotency_key, .. } => idempotency_key.clone(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proto_model::injection::{UndoAnswer, Undone};

    use super::*;

    #[test]
    fn a_copy_shares_no_id_with_its_pattern_and_is_earlier() {
        let (run, injection) = (RunId::generate(), InjectionId::generate());
        let undone = Undone {
            ended_by: proto_model::injection::EndedBy::Stop,
            undone_by: "agent".to_owned(),
            undo_ms: 1,
            answer: UndoAnswer::UndoneNow,
            drift: Vec::new(),
        };
        let event = Event {
            run_id: run.clone(),
            seq: 1,
            version: proto_model::event::SCHEMA_VERSION,
            at: Timestamp(5_000),
            by: "host".to_owned(),
            source: None,
            body: EventBody::InjectionUndone {
                id: injection.clone(),
                undone,
            },
        };
        let copy = Copy {
            ids: vec![
                (run.to_string(), "0000000000000001".to_owned()),
                (injection.to_string(), "0000000000000002".to_owned()),
            ],
            run: RunId::generate(),
            earlier_ms: 1_000,
        };
        let copied = copy.events(&[event]).unwrap().remove(0);
        assert_eq!(copied.at, Timestamp(4_000));
        assert!(matches!(&copied.body, EventBody::InjectionUndone { id, .. } if id.as_str() == "0000000000000002"));
    }
}
