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
    let detect_drift = journal.first_rewind() && journal.history().applied.is_some();
    let same_boot = is_of_this_boot(journal.history(), view);
    let mut context = UndoContext {
        ops: ops.all(KEY),
        view,
        detect_drift,
        same_boot,
    };
    let mut report = RewindReport::default();
    let due = due(journal.history());
    for (seq, undo) in &due {
        match undo.undo(&mut context) {
            Ok(outcome) => {
                if let UndoOutcome::Drift { what } = &outcome {
                    let untold: Vec<String> = what.iter().filter(|words| !report.drift.contains(words)).cloned().collect();
                    report.drift.extend(untold);
                }
                // Undoing goes on without paper: done twice, it finds nothing to do.
                if let Err(error) = journal.undone(*seq, outcome.clone()) {
                    tracing::warn!(%error, injection = %journal.injection(), seq, "an undo that was carried out could not be recorded");
                }
                report.outcomes.push(outcome);
            }
            Err(error) => report.failures.push(UndoFailure {
                undo: undo.clone(),
                error: with_causes(&error),
            }),
        }
    }
    if !due.is_empty() {
        tidy(journal.history(), &mut context);
    }
    report
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
