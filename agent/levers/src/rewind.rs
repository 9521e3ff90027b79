//! The only way back: every recorded undo, last first, each on its own. It needs no fault, no network and no controller.

use std::collections::HashSet;
use std::mem::discriminant;

use agent_journal::UndoOutcome;
use agent_view::HostView;

use crate::error::with_causes;
use crate::host_ops::{HostOps, KEY};
use crate::kinds::{History, Journal, Undo, UndoContext};

/// One undo that went wrong; it stays due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoFailure {
    pub undo: Undo,
    /// With its causes.
    pub error: String,
}

/// What a rewind did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RewindReport {
    pub outcomes: Vec<UndoOutcome>,
    pub failures: Vec<UndoFailure>,
    /// Things that somebody else had changed, left as they are.
    pub drift: Vec<String>,
}

impl RewindReport {
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Carries out every undo that is due, last first. One that fails stops no other and stays due; from any prefix of a
/// journal the result is the same. When none is due in a journal that is still open, all are done once more.
///
/// Whoever calls it has recorded the end before.
pub fn rewind(journal: &mut Journal, ops: &mut dyn HostOps, view: &dyn HostView) -> RewindReport {
    Rewind::begin(journal, ops, view).finish(journal, ops, view)
}

/// A rewind that has begun. Injections that end together begin all of theirs before the first is finished: then none acts on while
/// what another one holds drains, and they drain side by side.
#[derive(Debug)]
pub struct Rewind {
    /// In their order; the first of them waits.
    due: Vec<(u32, Undo)>,
    /// Since when the first of them is released, on boot time; none where that failed.
    released_ms: Option<u64>,
    detect_drift: bool,
    /// Something was due at all.
    has_work: bool,
    report: RewindReport,
}

impl Rewind {
    /// Carries out what is due up to the first undo that waits, and releases that one: nothing acts any more when it returns, save what
    /// lies behind it in the order of the journal.
    pub fn begin(journal: &mut Journal, ops: &mut dyn HostOps, view: &dyn HostView) -> Self {
        let mut at_once = due(journal.history());
        let has_work = !at_once.is_empty();
        let first_that_waits = at_once.iter().position(|(_, undo)| undo.waits());
        let mut rewind = Self {
            due: at_once.split_off(first_that_waits.unwrap_or(at_once.len())),
            released_ms: None,
            detect_drift: journal.first_rewind() && journal.history().applied.is_some(),
            has_work,
            report: RewindReport::default(),
        };
        let mut context = rewind.context(journal.history(), ops, view);
        for (seq, undo) in &at_once {
            rewind.report.carry_out(*seq, undo, journal, &mut context);
        }
        if let Some((_, undo)) = rewind.due.first() {
            match undo.release(&mut context) {
                Ok(()) => rewind.released_ms = Some(view.boot_ms()),
                Err(error) => {
                    let (injection, error) = (journal.injection(), with_causes(&error));
                    tracing::warn!(%injection, %undo, error, "what waits at its end could not be released first: its undo does all of it");
                }
            }
        }
        rewind
    }

    /// Something is left that waits until it has drained or ended.
    pub fn has_to_wait(&self) -> bool {
        !self.due.is_empty()
    }

    /// Carries out the rest, waiting where it has to.
    pub fn finish(mut self, journal: &mut Journal, ops: &mut dyn HostOps, view: &dyn HostView) -> RewindReport {
        let mut context = self.context(journal.history(), ops, view);
        for (seq, undo) in &self.due {
            self.report.carry_out(*seq, undo, journal, &mut context);
            context.released_ms = None;
        }
        if self.has_work {
            tidy(journal.history(), &mut context);
        }
        self.report
    }

    fn context<'a>(&self, history: &History, ops: &'a mut dyn HostOps, view: &'a dyn HostView) -> UndoContext<'a> {
        UndoContext {
            ops: ops.all(KEY),
            view,
            detect_drift: self.detect_drift,
            same_boot: is_of_this_boot(history, view),
            released_ms: self.released_ms,
        }
    }
}

impl RewindReport {
    fn carry_out(&mut self, seq: u32, undo: &Undo, journal: &mut Journal, context: &mut UndoContext<'_>) {
        match undo.undo(context) {
            Ok(outcome) => {
                if let UndoOutcome::Drift { what } = &outcome {
                    let untold: Vec<String> = what.iter().filter(|words| !self.drift.contains(words)).cloned().collect();
                    self.drift.extend(untold);
                }
                // One that is carried out again and again, because a look finds something left, is recorded once. Undoing goes on without
                // paper: done twice, it finds nothing to do.
                if journal.history().undone.get(&seq) != Some(&outcome)
                    && let Err(error) = journal.undone(seq, outcome.clone())
                {
                    tracing::warn!(%error, injection = %journal.injection(), seq, "an undo that was carried out could not be recorded");
                }
                self.outcomes.push(outcome);
            }
            Err(error) => self.failures.push(UndoFailure {
                undo: undo.clone(),
                error: with_causes(&error),
            }),
        }
    }
}

/// Also for levers whose own undo was done earlier: what they share may have been in use until the last of the others was undone.
fn tidy(history: &History, context: &mut UndoContext<'_>) {
    let mut levers = HashSet::new();
    for (_, undo) in &history.intents {
        if levers.insert(discriminant(undo)) {
            undo.tidy()(context);
        }
    }
}

fn due(history: &History) -> Vec<(u32, Undo)> {
    let pending: Vec<(u32, Undo)> = history.pending().map(|(seq, undo)| (seq, undo.complete(history))).collect();
    if pending.is_empty() && history.is_open() {
        let all = history.intents.iter().rev();
        return all.map(|(seq, undo)| (*seq, undo.complete(history))).collect();
    }
    pending
}

/// Pids and start times are counted from boot: those of an earlier one name nobody.
pub(crate) fn is_of_this_boot(history: &History, view: &dyn HostView) -> bool {
    history.opened.boot_id == view.boot_id()
}
