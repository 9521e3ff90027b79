//! One try at putting an injection right, and when to try again; the same for agent, guardian and rescue.

use agent_journal::Outcome;
use agent_levers::{HostOps, Journal, Rewind, inspect};
use agent_view::HostView;
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, AgentReport, EndedBy, Ending, Spent, UndoAnswer, UndoFailed, Undone};

use crate::report_sequence::ReportSequence;

/// An undo that has not succeeded after this long makes the host dirty.
pub(crate) const DIRTY_AFTER_MS: u64 = 10_000;
/// So many failures are recorded of an injection; texts that never repeat, as by a pid in them, would fill the disk in time.
const MOST_FAILURES: usize = 100;
const FIRST_RETRY_MS: u64 = 100;
const LAST_RETRY_MS: u64 = 5_000;

/// An injection of which nothing is left.
pub(crate) struct PutRight {
    pub(crate) drift: Vec<String>,
    /// What could not be looked at elsewhere on the host: it keeps no injection open, and the host unproven.
    pub(crate) unseen: Vec<String>,
}

/// An undo under way.
pub(crate) struct Undoing {
    pub(crate) by: EndedBy,
    pub(crate) since_ms: u64,
    pub(crate) attempts: u32,
    pub(crate) next_try_ms: u64,
    pub(crate) last_failure: Option<UndoFailed>,
    /// Told once that the host is dirty because of it.
    pub(crate) dirty: bool,
    /// The rewind of a try that has begun.
    begun: Option<Rewind>,
}

impl Undoing {
    /// Records that nothing may be pulled any more, and the report of it, unless an earlier process has: then its report is given again, under
    /// its number. A journal that cannot be written is no reason to leave a fault.
    pub(crate) fn begin(
        by: EndedBy,
        reason: Option<String>,
        journal: &mut Journal,
        teller: &mut ReportSequence,
        view: &dyn HostView,
    ) -> (Self, AgentReport) {
        let by = match journal.history().ending {
            Some(earlier) => earlier,
            None => {
                kept(journal.ending(by), "ending");
                by
            }
        };
        let mut recorded = journal.history().reports.iter();
        let recorded = recorded.rfind(|report| matches!(report.fact, AgentFact::Ending(_))).cloned();
        let report = recorded.unwrap_or_else(|| {
            let report = teller.tell(view, AgentFact::Ending(Ending { ended_by: by, reason }));
            kept(journal.report(&report), "ending");
            report
        });
        let now = view.boot_ms();
        let undoing = Self {
            by,
            since_ms: now,
            attempts: 0,
            next_try_ms: now,
            last_failure: None,
            dirty: false,
            begun: None,
        };
        (undoing, report)
    }

    /// Begins a try: what ends at once has ended when it returns. Those that end together all begin before any of them goes on.
    pub(crate) fn begin_attempt(&mut self, journal: &mut Journal, hands: &mut dyn HostOps, view: &dyn HostView) {
        if self.begun.is_none() {
            self.begun = Some(Rewind::begin(journal, hands, view));
        }
    }

    /// The try that has begun waits for something before it is through.
    pub(crate) fn has_to_wait(&self) -> bool {
        self.begun.as_ref().is_some_and(Rewind::has_to_wait)
    }

    /// A try has begun, and not gone on.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Rewinds once, from where the try has begun. `Ok` when nothing of the injection is left; `Err` plans the next try.
    pub(crate) fn attempt(
        &mut self,
        journal: &mut Journal,
        hands: &mut dyn HostOps,
        view: &dyn HostView,
        others: &[InjectionId],
    ) -> Result<PutRight, UndoFailed> {
        self.attempts += 1;
        let begun = match self.begun.take() {
            Some(begun) => begun,
            None => Rewind::begin(journal, hands, view),
        };
        let result = put_right(begun, journal, hands, view, others);
        result.map_err(|(undo, error)| {
            let failure = UndoFailed {
                undo,
                error,
                attempt: self.attempts,
            };
            self.next_try_ms = self.next_try(view.boot_ms());
            self.last_failure = Some(failure.clone());
            failure
        })
    }

    /// The wait grows, but one try falls on the moment at which the host becomes dirty.
    fn next_try(&self, now_ms: u64) -> u64 {
        let next = now_ms + retry_after(self.attempts);
        let overdue = self.since_ms + DIRTY_AFTER_MS;
        if now_ms < overdue { next.min(overdue) } else { next }
    }

    pub(crate) fn is_overdue(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.since_ms) >= DIRTY_AFTER_MS
    }

    /// Records the end: undone, or spent when something was done that has no way back. From here on the journal only waits to be settled.
    pub(crate) fn close(
        &self,
        undone_by: &str,
        drift: Vec<String>,
        journal: &mut Journal,
        teller: &mut ReportSequence,
        view: &dyn HostView,
    ) -> AgentReport {
        let undo_ms = view.boot_ms().saturating_sub(self.since_ms);
        let history = journal.history();
        let fact = if history.is_spent() {
            AgentFact::Spent(Spent {
                consequences: history.told_consequences(),
            })
        } else {
            AgentFact::Undone(Undone {
                ended_by: self.by,
                undone_by: undone_by.to_owned(),
                undo_ms,
                answer: UndoAnswer::UndoneNow,
                drift: drift.clone(),
            })
        };
        let report = teller.tell(view, fact);
        kept(journal.report(&report), "end");
        let outcome = Outcome {
            ended_by: self.by,
            undone_by: undone_by.to_owned(),
            undo_ms,
            drift,
        };
        kept(journal.closed(&outcome), "end");
        report
    }
}

fn retry_after(attempts: u32) -> u64 {
    let doubled = FIRST_RETRY_MS.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(LAST_RETRY_MS)
}

/// Rewinds, then looks: what is left in words, with the undo that left it.
fn put_right(
    begun: Rewind,
    journal: &mut Journal,
    hands: &mut dyn HostOps,
    view: &dyn HostView,
    others: &[InjectionId],
) -> Result<PutRight, (String, String)> {
    let rewound = begun.finish(journal, hands, view);
    if let Some(failure) = rewound.failures.first() {
        return Err((failure.undo.to_string(), failure.error.clone()));
    }
    let history = journal.history();
    let id = history.opened.injection.as_str();
    let found = inspect(&[history], others, view);
    let owned = found.seen.owned_left.iter().filter(|thing| thing.contains(id));
    let touched = found.seen.not_restored.iter().chain(&found.unseen_of_undos);
    let left: Vec<&str> = owned.chain(touched).map(String::as_str).collect();
    if left.is_empty() {
        return Ok(PutRight {
            drift: rewound.drift,
            unseen: found.unseen_on_host,
        });
    }
    Err((
        "look whether everything is gone".to_owned(),
        format!("still there: {}", left.join(", ")),
    ))
}

/// Reports a failure and records it. One like the last that is recorded, or one more than a journal keeps, is not recorded again: the last
/// report is given once more, under its number, so that the journal of an undo that fails for ever does not grow for ever.
pub(crate) fn report_failure(failure: UndoFailed, journal: &mut Journal, teller: &mut ReportSequence, view: &dyn HostView) -> AgentReport {
    let recorded = journal.history().reports.iter().filter_map(|report| match &report.fact {
        AgentFact::UndoFailed(known) => Some((report, known)),
        _ => None,
    });
    let recorded: Vec<(&AgentReport, &UndoFailed)> = recorded.collect();
    if let Some((report, known)) = recorded.last() {
        let is_same = (&known.undo, &known.error) == (&failure.undo, &failure.error);
        if is_same || recorded.len() >= MOST_FAILURES {
            return (*report).clone();
        }
    }
    let report = teller.tell(view, AgentFact::UndoFailed(failure));
    kept(journal.report(&report), "failure");
    report
}

/// A record that could not be written costs the controller a report, never the host its undo.
pub(crate) fn kept(result: Result<(), agent_journal::JournalError>, what: &'static str) {
    if let Err(error) = result {
        tracing::error!(%error, what, "a record of the journal is lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_quickly_first_and_never_stop() {
        let waits: Vec<u64> = (1..=8).map(retry_after).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(retry_after(u32::MAX), LAST_RETRY_MS);
    }
}
