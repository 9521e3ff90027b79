//! What a fault pulls with: its injection, its journal and its host. No lever changes anything before its undo is recorded, synced.

use std::any::Any;

use agent_view::{HostView, ViewError};
use proto_model::id::InjectionId;

use crate::error::OpsError;
use crate::host_ops::{HostOps, KEY};
use crate::kinds::{AllOps, Journal, Undo};
use crate::traffic::Exemptions;

/// Why a pull did not happen, or went wrong after its undo was recorded.
#[derive(Debug, thiserror::Error)]
pub enum LeverError {
    /// The undo could not be written, so nothing was touched.
    #[error("record the undo before the deed")]
    Journal(#[source] agent_journal::JournalError),
    #[error("{0}")]
    Host(#[from] OpsError),
    #[error("{0}")]
    Look(#[from] ViewError),
    /// The injection is closed or being undone; nothing is pulled again.
    #[error("the injection is already ending")]
    Ending,
    #[error("{0}")]
    Other(String),
}

/// What a pull needs to know besides its own arguments.
#[derive(Debug, Clone)]
pub struct PullContext {
    pub injection: InjectionId,
    pub kind: String,
    pub seed: u64,
    pub deadline_boot_ms: u64,
    /// min(what is left of the duration, the lease): how long the kernel may hold by itself.
    pub gate_ms: u64,
    pub exemptions: Exemptions,
}

/// Where undos are recorded; a locked journal, or the suites' paper with crash points.
pub trait UndoLog {
    /// Appends and syncs the undo; from its return on the deed may be done.
    fn intend(&mut self, undo: Undo) -> Result<u32, agent_journal::JournalError>;
    /// Appends and syncs what is about to be done for good; from its return on the deed may be done.
    fn declare(&mut self, consequences: Vec<String>) -> Result<(), agent_journal::JournalError>;
    /// Every undo that was recorded, in the order of the pulls.
    fn undos(&self) -> Vec<Undo>;
    /// True once an end has been recorded: nothing may be pulled.
    fn is_ending(&self) -> bool;
}

impl UndoLog for Journal {
    fn intend(&mut self, undo: Undo) -> Result<u32, agent_journal::JournalError> {
        Journal::intend(self, undo)
    }

    fn declare(&mut self, consequences: Vec<String>) -> Result<(), agent_journal::JournalError> {
        Journal::declare(self, consequences)
    }

    fn undos(&self) -> Vec<Undo> {
        self.history().intents.iter().map(|(_, undo)| undo.clone()).collect()
    }

    fn is_ending(&self) -> bool {
        Journal::is_ending(self)
    }
}

/// Everything a fault may do to a host: each lever adds its own methods.
pub struct Levers<'a> {
    log: &'a mut dyn UndoLog,
    ops: &'a mut dyn AllOps,
    view: &'a dyn HostView,
    context: PullContext,
}

impl<'a> Levers<'a> {
    pub fn new(log: &'a mut dyn UndoLog, ops: &'a mut dyn HostOps, view: &'a dyn HostView, context: PullContext) -> Self {
        let ops = ops.all(KEY);
        Self { log, ops, view, context }
    }

    pub fn view(&self) -> &'a dyn HostView {
        self.view
    }

    pub fn context(&self) -> &PullContext {
        &self.context
    }

    /// Adds to what is told of the end: something that our deed led to and that has no way back either.
    pub fn declare(&mut self, consequences: Vec<String>) -> Result<(), LeverError> {
        self.check_open()?;
        self.log.declare(consequences).map_err(LeverError::Journal)
    }

    /// Every lever of this injection that takes such an aim acts as it says from now on.
    pub(crate) fn retarget(&mut self, aim: &dyn Any) -> Result<(), LeverError> {
        self.check_open()?;
        for undo in self.log.undos() {
            undo.retarget(self.ops, aim)?;
        }
        Ok(())
    }

    /// The host, for what was recorded before.
    pub(crate) fn ops(&mut self) -> &mut dyn AllOps {
        self.ops
    }

    pub(crate) fn ops_with_context(&mut self) -> (&mut dyn AllOps, &PullContext) {
        (self.ops, &self.context)
    }

    /// Records an undo; from its return on what it undoes may be done.
    pub(crate) fn intend(&mut self, undo: impl Into<Undo>) -> Result<(), LeverError> {
        self.check_open()?;
        self.log.intend(undo.into()).map(|_| ()).map_err(LeverError::Journal)
    }

    /// Nothing may be pulled, nor what was pulled made more, once an end is recorded.
    pub(crate) fn check_open(&self) -> Result<(), LeverError> {
        if self.log.is_ending() {
            return Err(LeverError::Ending);
        }
        Ok(())
    }
}
