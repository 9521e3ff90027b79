//! What a journal says once all of it is read: the state of one injection; it never touches a file.

use std::collections::BTreeMap;

use proto_model::injection::{AgentReport, EndedBy};
use serde_json::Value;

use crate::format::Line;
use crate::record::{Opened, Outcome, Record};
use crate::undo::{UndoData, UndoOutcome};

/// So many consequences are told one by one: a report must fit into the space that a journal keeps for its end.
const MOST_TOLD: usize = 64;

/// One injection as its journal tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct History<U> {
    pub opened: Opened,
    /// Every recorded way back by its number, in the order of the pulls.
    pub intents: Vec<(u32, U)>,
    pub applied: Option<Value>,
    /// What was declared, before it was done, to have no way back; in order.
    pub consequences: Vec<String>,
    /// The first recorded end; from there on nothing is pulled.
    pub ending: Option<EndedBy>,
    pub undone: BTreeMap<u32, UndoOutcome>,
    pub reports: Vec<AgentReport>,
    pub closed: Option<Outcome>,
    /// Records that are whole and that this version cannot read, in words.
    pub strange: Vec<String>,
}

impl<U: UndoData> History<U> {
    pub(crate) fn begin(opened: Opened) -> Self {
        Self {
            opened,
            intents: Vec::new(),
            applied: None,
            consequences: Vec::new(),
            ending: None,
            undone: BTreeMap::new(),
            reports: Vec::new(),
            closed: None,
            strange: Vec::new(),
        }
    }

    /// `None` when the lines do not begin with an opening.
    pub(crate) fn of(lines: &[Line<U>]) -> Option<Self> {
        let (first, rest) = lines.split_first()?;
        let Ok(Record::Opened(opened)) = &first.says else { return None };
        let mut history = Self::begin(opened.clone());
        for line in rest {
            match &line.says {
                Ok(record) => history.take(record.clone()),
                Err(why) => history.strange.push(why.clone()),
            }
        }
        Some(history)
    }

    pub(crate) fn take(&mut self, record: Record<U>) {
        match record {
            Record::Opened(_) => self.strange.push("a second opening".to_owned()),
            Record::Intends { seq, undo } => self.intents.push((seq, undo)),
            Record::Consequences { texts } => self.consequences.extend(texts),
            Record::Applied { effect } => self.applied = Some(effect),
            Record::Ending { ended_by } => {
                self.ending.get_or_insert(ended_by);
            }
            Record::Undone { seq, outcome } => {
                self.undone.insert(seq, outcome);
            }
            Record::Report(report) => self.reports.push(report),
            Record::Closed(outcome) => self.closed = Some(outcome),
        }
    }

    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// An end is recorded: nothing may be pulled any more.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some() || self.closed.is_some()
    }

    /// Something was done that has no way back: its end is called spent, and never undone.
    pub fn is_spent(&self) -> bool {
        !self.consequences.is_empty()
    }

    /// What has no way back, as it is told: the first of them, and how many more there are.
    pub fn told_consequences(&self) -> Vec<String> {
        let more = self.consequences.len().saturating_sub(MOST_TOLD);
        let mut told: Vec<String> = self.consequences.iter().take(MOST_TOLD).cloned().collect();
        if more > 0 {
            told.push(format!("and {more} more like these"));
        }
        told
    }

    /// The ways back not yet carried out, last first.
    pub fn pending(&self) -> impl Iterator<Item = (u32, &U)> {
        let undone = &self.undone;
        self.intents
            .iter()
            .rev()
            .filter(|(seq, _)| !undone.contains_key(seq))
            .map(|(seq, undo)| (*seq, undo))
    }

    /// The number of the next intent.
    pub(crate) fn next_seq(&self) -> u32 {
        self.intents.iter().map(|(seq, _)| *seq).max().unwrap_or(0).saturating_add(1)
    }
}
