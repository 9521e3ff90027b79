//! Many finished runs from a real one: copies of a stored run under new ids, at earlier times, of several services, tests and verdicts.

use anyhow::{Context, Result, bail};
use controller_report::fold;
use controller_store::{COMPACTION_STEP, Finished, SqliteStore, Store};
use proto_model::event::{Event, EventBody, NewEvent};
use proto_model::finished::FinishedRun;
use proto_model::id::{InjectionId, RunId};
use proto_model::time::Timestamp;
use proto_model::verdict::Verdict;
use serde_json::json;

use crate::{Multiply, print};

/// The time over which they are spread.
const YEAR_MS: i64 = 365 * 24 * 3_600_000;
/// Written together.
const BATCH: usize = 200;
/// One of so many did not pass.
const FAILED_OF: i64 = 8;

pub fn run(multiply: &Multiply) -> Result<()> {
    let mut store = SqliteStore::open(&multiply.store).with_context(|| format!("open {}", multiply.store.display()))?;
    let pattern = store.find_run("@last").context("find the run to copy")?;
    let events = store.run_events(&pattern, 1)?;
    let known = fold(&events).context("read the run to copy")?;
    if known.verdict.is_none() {
        bail!("run {pattern} is not finished; copy one that is");
    }
    let service = known.service.context("the run to copy is of a service")?;
    // The oldest first, as they would have come.
    let numbers: Vec<i64> = (1..=i64::from(multiply.runs)).rev().collect();
    for batch in numbers.chunks(BATCH) {
        let copies = batch.iter().map(|number| {
            let earlier_ms = YEAR_MS / i64::from(multiply.runs) * number;
            let mut copy = Copy::new(&pattern, &events, earlier_ms);
            copy.fails = number % FAILED_OF == 0;
            // Of the names that the pattern has: the same with a number.
            let of = number % i64::from(multiply.services);
            let (as_json, new) = (format!("\"service\":{}", json!(service)), json!(format!("{service}-{of}")));
            copy.ids.push((as_json, format!("\"service\":{new}")));
            let test = number / i64::from(multiply.services) % i64::from(multiply.tests);
            let (as_json, new) = (format!("\"name\":{}", json!(known.name)), json!(format!("{}-{test}", known.name)));
            copy.ids.push((as_json, format!("\"name\":{new}")));
            Ok((copy.run.clone(), copy.events(&events)?))
        });
        let stored = store.append_all(copies.collect::<Result<_>>()?)?;
        let read = stored.iter().filter_map(|events| {
            let last = events.last()?;
            let known = fold(events).map(|run| FinishedRun::from(&run));
            Some((last.run_id.clone(), last.seq, known))
        });
        store.keep_all(&read.collect::<Vec<_>>())?;
        // As the controller does after each run.
        while !multiply.in_rows && store.compact(COMPACTION_STEP)? > 0 {}
    }
    print(&json!({ "runs": multiply.runs, "events": events.len() }))
}

/// One copy: which ids and names become which, how much earlier it is, and whether it failed.
struct Copy {
    run: RunId,
    ids: Vec<(String, String)>,
    earlier_ms: i64,
    fails: bool,
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
        Self {
            run,
            ids,
            earlier_ms,
            fails: false,
        }
    }

    fn events(&self, events: &[Event]) -> Result<Vec<NewEvent>> {
        let copied = events.iter().map(|event| {
            let text = self.renamed(&serde_json::to_string(&event.body)?);
            let mut body = serde_json::from_str(&text)?;
            if let EventBody::RunJudged { verdict, .. } = &mut body
                && self.fails
            {
                *verdict = Verdict::Failed;
            }
            Ok(NewEvent {
                at: self.earlier(event.at),
                by: event.by.clone(),
                source: event.source.clone(),
                body,
            })
        });
        copied.collect()
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
            fails: false,
        };
        let copied = copy.events(&[event]).unwrap().remove(0);
        assert_eq!(copied.at, Timestamp(4_000));
        assert!(matches!(&copied.body, EventBody::InjectionUndone { id, .. } if id.as_str() == "0000000000000002"));
    }
}
