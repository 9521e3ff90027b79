//! One injection's journal, held alone: what is appended here is on disk before the deed. It undoes nothing and deletes nothing.

use std::io;

use proto_model::id::InjectionId;
use proto_model::injection::{AgentReport, EndedBy};
use serde_json::Value;

use crate::error::JournalError;
use crate::file::JournalFile;
use crate::format::{self, Line};
use crate::history::History;
use crate::record::{Outcome, Record};
use crate::undo::{UndoData, UndoOutcome};

/// Space made at once, when a journal is created and whenever it grows.
pub(crate) const CHUNK: u64 = 64 * 1024;
/// Space that only the records of an undo may use, so that undoing needs no disk.
const RESERVE: u64 = 16 * 1024;

/// The lock is released when it is dropped.
pub struct Journal<U> {
    pub(crate) disk: Option<JournalCopy>,
    pub(crate) mirror: Option<JournalCopy>,
    pub(crate) lines: Vec<Line<U>>,
    pub(crate) history: History<U>,
    /// An undo may have been tried before, by us or by whoever held the journal then.
    pub(crate) tried: bool,
}

/// One of the two copies and how far it has come.
pub(crate) struct JournalCopy {
    pub(crate) file: Box<dyn JournalFile>,
    pub(crate) lines: usize,
}

/// Which copy must have taken a record for the append to count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// What precedes a deed.
    Disk,
    /// What belongs to an undo: it goes on with the disk full or read-only.
    Either,
}

impl<U: UndoData> Journal<U> {
    pub fn history(&self) -> &History<U> {
        &self.history
    }

    pub fn injection(&self) -> &InjectionId {
        &self.history.opened.injection
    }

    pub fn is_ending(&self) -> bool {
        self.history.is_ending()
    }

    /// Records the way back; from its return on the deed may be done.
    pub fn intend(&mut self, undo: U) -> Result<u32, JournalError> {
        if self.is_ending() {
            return Err(JournalError::Ending {
                injection: self.injection().clone(),
            });
        }
        let seq = self.history.next_seq();
        self.append(Record::Intends { seq, undo }, Demand::Disk)?;
        Ok(seq)
    }

    /// Records what is about to be done and cannot be taken back; from its return on the deed may be done.
    pub fn declare(&mut self, consequences: Vec<String>) -> Result<(), JournalError> {
        if self.is_ending() {
            return Err(JournalError::Ending {
                injection: self.injection().clone(),
            });
        }
        self.append(Record::Consequences { texts: consequences }, Demand::Disk)
    }

    pub fn applied(&mut self, effect: &Value) -> Result<(), JournalError> {
        self.append(Record::Applied { effect: effect.clone() }, Demand::Disk)
    }

    /// From here on nothing is pulled, also when this could not be written anywhere.
    pub fn ending(&mut self, by: EndedBy) -> Result<(), JournalError> {
        if self.is_ending() {
            return Ok(());
        }
        self.append(Record::Ending { ended_by: by }, Demand::Either)
    }

    pub fn undone(&mut self, seq: u32, outcome: UndoOutcome) -> Result<(), JournalError> {
        self.append(Record::Undone { seq, outcome }, Demand::Either)
    }

    pub fn report(&mut self, report: &AgentReport) -> Result<(), JournalError> {
        self.append(Record::Report(report.clone()), Demand::Either)
    }

    pub fn closed(&mut self, outcome: &Outcome) -> Result<(), JournalError> {
        self.append(Record::Closed(outcome.clone()), Demand::Either)
    }

    /// True only the first time, and only when nobody recorded an end before us: what is found changed then was changed by others.
    pub fn first_rewind(&mut self) -> bool {
        !std::mem::replace(&mut self.tried, true)
    }

    fn append(&mut self, record: Record<U>, demand: Demand) -> Result<(), JournalError> {
        let line = format::encode(self.lines.last(), record.clone())?;
        self.lines.push(line);
        match demand {
            Demand::Disk => self.append_to_disk()?,
            Demand::Either => {
                // A report that nobody could write is told all the same by whoever is there; the record stays due.
                self.history.take(record);
                return self.append_somewhere();
            }
        }
        self.history.take(record);
        Ok(())
    }

    fn append_to_disk(&mut self) -> Result<(), JournalError> {
        let written = write_due(self.disk.as_mut(), &self.lines, RESERVE);
        if written.is_err() {
            self.lines.pop();
            return written;
        }
        // The mirror is a second chance, not a condition.
        let _ = write_due(self.mirror.as_mut(), &self.lines, RESERVE);
        Ok(())
    }

    fn append_somewhere(&mut self) -> Result<(), JournalError> {
        let disk = write_due(self.disk.as_mut(), &self.lines, 0);
        let mirror = write_due(self.mirror.as_mut(), &self.lines, 0);
        disk.or(mirror)
    }
}

/// Brings a copy up to date.
fn write_due<U>(copy: Option<&mut JournalCopy>, lines: &[Line<U>], reserve: u64) -> Result<(), JournalError> {
    let Some(copy) = copy else {
        let missing = io::Error::new(io::ErrorKind::NotFound, "this copy of the journal is missing");
        return Err(JournalError::io("append to", std::path::Path::new("a journal"), missing));
    };
    copy.write_due(lines, reserve)
        .map_err(|e| JournalError::io("append to", copy.file.path(), e))
}

impl JournalCopy {
    fn write_due<U>(&mut self, lines: &[Line<U>], reserve: u64) -> io::Result<()> {
        let start: u64 = lines[..self.lines].iter().map(|line| line.bytes.len() as u64).sum();
        let due: Vec<u8> = lines[self.lines..].iter().flat_map(|line| line.bytes.iter().copied()).collect();
        let end = start + due.len() as u64;
        let size = self.file.size()?;
        if end + reserve > size {
            self.file.grow((end + reserve).next_multiple_of(CHUNK))?;
        }
        self.file.write(start, &due)?;
        self.lines = lines.len();
        Ok(())
    }
}
