//! What the checks begin with: events, plans and callers that any store takes.

use proto_model::event::{AgentSource, Event, EventBody, NewEvent};
use proto_model::id::InjectionId;
use proto_model::injection::{EndedBy, UndoAnswer, Undone};
use proto_model::plan::{Limits, Origin, Plan};
use proto_model::time::Timestamp;
use proto_model::verdict::{Cleanup, RunEndedBy, Verdict};

use crate::records::{Actor, StoreError};
use crate::store::Store;

pub(super) type Make<'a> = &'a dyn Fn() -> Box<dyn Store>;

/// `count` notes of `length` characters each: filler for tests of stores.
pub fn notes(count: usize, length: usize) -> Vec<NewEvent> {
    (0..count).map(|i| note(&format!("{i:0length$}"))).collect()
}

/// The events of a run that begins and has its verdict.
pub fn finished_run() -> Vec<NewEvent> {
    vec![accepted("one", None), judged()]
}

pub(crate) fn note(text: &str) -> NewEvent {
    event(EventBody::NoteAdded { text: text.to_owned() }, None)
}

pub(super) fn event(body: EventBody, source: Option<AgentSource>) -> NewEvent {
    NewEvent {
        at: Timestamp(1_700_000_000_000),
        by: "root@local".into(),
        source,
        body,
    }
}

pub(crate) fn undone(id: &InjectionId, boot_id: &str, agent_seq: u64) -> NewEvent {
    let undone = Undone {
        ended_by: EndedBy::Stop,
        undone_by: "agent".into(),
        undo_ms: 41,
        answer: UndoAnswer::UndoneNow,
        drift: vec!["somebody else changed it".into()],
    };
    let source = AgentSource {
        boot_id: boot_id.to_owned(),
        boot_ms: 77,
        agent_seq,
        happened_at: None,
    };
    event(EventBody::InjectionUndone { id: id.clone(), undone }, Some(source))
}

pub(super) fn judged() -> NewEvent {
    let body = EventBody::RunJudged {
        verdict: Verdict::Passed,
        cleanup: Cleanup::Proven,
        exit_code: 0,
        ended_by: RunEndedBy::Completed,
        reasons: Vec::new(),
        detection_ms: None,
        recovery_ms: Some(1_200),
        judge_version: 1,
    };
    event(body, None)
}

pub(super) fn a_plan(name: &str) -> Plan {
    Plan {
        name: name.to_owned(),
        origin: Origin::Attack,
        service: None,
        environment: "staging".into(),
        hypothesis: None,
        guards: Vec::new(),
        limits: Limits::default(),
        steps: Vec::new(),
        hosts: Vec::new(),
        seed: u64::MAX,
        notes: Vec::new(),
        source: String::new(),
        variables: Default::default(),
        production: false,
    }
}

pub(super) fn accepted(name: &str, key: Option<&str>) -> NewEvent {
    let plan = a_plan(name);
    let body = EventBody::RunAccepted {
        digest: plan.digest(),
        plan: Box::new(plan),
        injections: Vec::new(),
        idempotency_key: key.map(str::to_owned),
        halt_epoch: 0,
    };
    event(body, None)
}

pub(super) fn actor() -> Actor {
    Actor {
        by: "root@local".into(),
        address: "local".into(),
    }
}

pub(super) fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|e| e.seq).collect()
}

pub(super) fn is_refused<T>(answer: Result<T, StoreError>, word: &str) {
    match answer.err() {
        Some(StoreError::Refused(why)) => assert!(why.contains(word), "refused with {why:?}, without {word:?}"),
        other => panic!("expected a refusal with {word:?}, got {other:?}"),
    }
}
