//! Every end of an injection, whatever its cause: recorded, rewound, looked at, told; tried again until nothing is left.

use agent_journal::JournalError;
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, EndedBy, UndoAnswer, UndoFailed, Undone};

use super::{TAKE_OVER_WAIT, Warden};
use crate::active::Stage;
use crate::causes::chain;
use crate::handle::{HaltAnswer, Reply, WardenError};
use crate::pending_replies::{Answer, End};
use crate::report_sequence::ReportSequence;
use crate::undoing::{Undoing, report_failure};

/// While an undo keeps failing, every so many tries are reported: as news where the failure is another, else as a repeat.
const TELL_EVERY: u32 = 12;

impl Warden {
    /// Ends one injection and tries at once to undo it. One that is ending already goes on as it does.
    pub(super) fn end(&mut self, id: &InjectionId, by: EndedBy, reason: Option<String>) {
        self.begin_end(id, by, reason);
        self.finish_undo(id);
    }

    /// The same up to where the undo waits. Those that end together all begin before any is finished, so that none acts on while another
    /// one drains.
    pub(super) fn begin_end(&mut self, id: &InjectionId, by: EndedBy, reason: Option<String>) {
        // Nothing comes before any other undo: a stop may be a guard's.
        if by == EndedBy::DurationElapsed {
            self.look_for_the_last_time(id);
        }
        let Some(active) = self.state.active_mut(id) else { return };
        if matches!(active.stage, Stage::Undoing(_)) {
            return;
        }
        tracing::info!(injection = %id, fault = active.kind, ended_by = by.as_str(), reason, "ending");
        let (undoing, report) = Undoing::begin(by, reason, &mut active.journal, &mut active.teller, self.executor.view().as_ref());
        active.stage = Stage::Undoing(undoing);
        self.send(report);
        self.begin_undo(id);
    }

    /// Begins one try of an injection that is ending.
    pub(super) fn begin_undo(&mut self, id: &InjectionId) {
        let Some(active) = self.state.active_mut(id) else { return };
        let Stage::Undoing(undoing) = &mut active.stage else { return };
        self.executor.begin_undo(undoing, &mut active.journal);
        self.still_here();
    }

    /// Finishes the tries of these that have begun; first those that have nothing to wait for.
    pub(super) fn finish_undos<'a>(&mut self, ids: impl IntoIterator<Item = &'a InjectionId>) {
        let has_to_wait = |id: &&InjectionId| match self.state.active(id).map(|active| &active.stage) {
            Some(Stage::Undoing(undoing)) => undoing.has_to_wait(),
            _ => false,
        };
        let (waiting, through): (Vec<&InjectionId>, Vec<&InjectionId>) = ids.into_iter().partition(has_to_wait);
        through.into_iter().chain(waiting).for_each(|id| self.finish_undo(id));
    }

    /// Goes on with a try that has begun; on success the injection is reported as undone, or spent, and only its journal is kept.
    pub(super) fn finish_undo(&mut self, id: &InjectionId) {
        let others = self.state.other_than(id);
        let Some(active) = self.state.active_mut(id) else { return };
        let Stage::Undoing(undoing) = &mut active.stage else { return };
        if !undoing.has_begun() {
            return;
        }
        let result = self.executor.undo(undoing, &mut active.journal, &others);
        self.still_here();
        match result {
            Ok(right) => {
                if !right.unseen.is_empty() {
                    self.remember_unseen(&right.unseen, &[]);
                }
                self.undone(id, None, right.drift);
            }
            Err(failure) => self.undo_failed(id, failure),
        }
    }

    /// The end is there; `accepted` when it is so by a person's word only.
    fn undone(&mut self, id: &InjectionId, accepted: Option<String>, drift: Vec<String>) {
        let Some(mut active) = self.state.take(id) else { return };
        let Stage::Undoing(undoing) = &active.stage else { return };
        let ours = match undoing.by {
            EndedBy::Rescue | EndedBy::Boot => "rescue",
            _ => "agent",
        };
        let undone_by = accepted.as_deref().unwrap_or(ours);
        let spent = active.journal.history().is_spent();
        let report = undoing.close(
            undone_by,
            drift,
            &mut active.journal,
            &mut active.teller,
            self.executor.view().as_ref(),
        );
        tracing::info!(injection = %id, fault = active.kind, ended_by = undoing.by.as_str(), spent, "ended, and nothing is left");
        self.state.remember_end(active.journal.history());
        drop(active);
        self.send(report);
        self.waits.ended(id, if spent { &End::Spent } else { &End::Undone });
    }

    fn undo_failed(&mut self, id: &InjectionId, failure: UndoFailed) {
        let now = self.view().boot_ms();
        let Some(active) = self.state.active_mut(id) else { return };
        let Stage::Undoing(undoing) = &mut active.stage else { return };
        let turned_dirty = !undoing.dirty && undoing.is_overdue(now);
        undoing.dirty |= turned_dirty;
        if turned_dirty {
            tracing::error!(injection = %id, fault = active.kind, undo = failure.undo, error = failure.error, "the host is dirty: an undo keeps failing");
        } else if failure.attempt.is_power_of_two() {
            // It is tried every few seconds for as long as it takes: the log hears of it less and less often.
            tracing::warn!(injection = %id, undo = failure.undo, error = failure.error, attempt = failure.attempt, "an undo failed and is tried again");
        }
        if failure.attempt == 1 || turned_dirty || failure.attempt.is_multiple_of(TELL_EVERY) {
            let view = self.executor.view().as_ref();
            let report = report_failure(failure.clone(), &mut active.journal, &mut active.teller, view);
            self.send(report);
        }
        if turned_dirty {
            self.waits.ended(id, &End::Failed(failure));
        }
    }

    /// Undone now, undone already, or never heard of: three answers, given once the effect is gone.
    pub(super) fn stop(&mut self, id: InjectionId, by: EndedBy, reply: Reply<Result<UndoAnswer, WardenError>>) {
        if self.state.active(&id).is_some() {
            self.end(&id, by, None);
            return self.answer_stop(id, reply);
        }
        if self.state.unopened(&id).is_some() {
            return self.stop_stray(id, by, reply);
        }
        if self.state.is_known(&id) {
            self.tell_again(&id);
            let spent = self.state.has_spent(&id);
            return reply(Ok(if spent { UndoAnswer::Spent } else { UndoAnswer::AlreadyUndone }));
        }
        // Whatever arrives later under this id comes too late, so the answer is remembered as its end.
        let mut teller = ReportSequence::new(id, String::new());
        let undone = Undone {
            ended_by: by,
            undone_by: "agent".to_owned(),
            undo_ms: 0,
            answer: UndoAnswer::UnknownId,
            drift: Vec::new(),
        };
        let report = teller.tell(self.view(), AgentFact::Undone(undone));
        self.state.remember_refused(report.clone());
        self.send(report);
        reply(Ok(UndoAnswer::UnknownId));
    }

    /// One whose journal could not be opened: it is undone as soon as it can be, and until then nobody may hear that it is.
    fn stop_stray(&mut self, id: InjectionId, by: EndedBy, reply: Reply<Result<UndoAnswer, WardenError>>) {
        self.take_over([id.clone()], TAKE_OVER_WAIT);
        match self.state.unopened(&id).cloned() {
            None => self.stop(id, by, reply),
            Some(why) => reply(Err(WardenError::UndoFailed(UndoFailed {
                undo: "open its journal".to_owned(),
                error: why,
                attempt: 1,
            }))),
        }
    }

    fn answer_stop(&mut self, id: InjectionId, reply: Reply<Result<UndoAnswer, WardenError>>) {
        if let Some(failure) = self.last_failure(&id) {
            return reply(Err(WardenError::UndoFailed(failure)));
        }
        if self.state.has_spent(&id) {
            return reply(Ok(UndoAnswer::Spent));
        }
        let pending = self.state.active(&id).is_some().then_some(id);
        self.waits.add(pending.into_iter().collect(), Answer::Stop(reply));
    }

    /// Set when an undo has been failing for so long that nobody waits for it any more.
    fn last_failure(&self, id: &InjectionId) -> Option<UndoFailed> {
        match &self.state.active(id)?.stage {
            Stage::Undoing(undoing) if undoing.dirty => undoing.last_failure.clone(),
            _ => None,
        }
    }

    pub(super) fn halt(&mut self, epoch: u64, reason: &str, reply: Reply<HaltAnswer>) {
        // A halt is obeyed whatever its epoch, so that a controller from an old backup can give one; a newer release ends it.
        self.latches.controller_says(epoch.max(self.latches.epoch()), true, reason);
        tracing::warn!(epoch, reason, "halted by the controller");
        self.end_all(EndedBy::Halt, reason, reply);
    }

    /// Ends everything and answers when the last is gone, or counts as failed.
    pub(super) fn end_all(&mut self, by: EndedBy, reason: &str, reply: Reply<HaltAnswer>) {
        let all = self.state.active_ids();
        // What cannot even be opened is not undone.
        let unopened = u32::try_from(self.state.all_unopened().len()).unwrap_or(u32::MAX);
        let reply: Reply<HaltAnswer> = Box::new(move |mut answer: HaltAnswer| {
            answer.failed = answer.failed.saturating_add(unopened);
            reply(answer);
        });
        let hopeless: Vec<(InjectionId, UndoFailed)> = all.iter().filter_map(|id| Some((id.clone(), self.last_failure(id)?))).collect();
        self.waits.add(all.clone(), Answer::Halt(reply));
        for (id, failure) in hopeless {
            self.waits.ended(&id, &End::Failed(failure));
        }
        for id in &all {
            self.begin_end(id, by, Some(reason.to_owned()));
        }
        self.finish_undos(&all);
    }

    /// A person answers for what is left; it is told under their name, and the host may be used again.
    pub(super) fn accept(&mut self, by: &str, reason: &str) {
        let dirty: Vec<(InjectionId, String)> = self
            .state
            .actives()
            .filter_map(|a| Some((a.injection.clone(), a.residue()?)))
            .collect();
        tracing::warn!(by, reason, injections = dirty.len(), "what is left on this host was accepted");
        for (id, residue) in dirty {
            self.undone(
                &id,
                Some(format!("accepted by {by}: {reason}")),
                vec![format!("left behind: {residue}")],
            );
        }
        let unopened: Vec<InjectionId> = self.state.all_unopened().keys().cloned().collect();
        unopened.iter().for_each(|id| self.accept_unopened(id));
        if unopened.iter().any(|id| self.state.unopened(id).is_none()) {
            // What these injections left belongs to none any more. What cannot be removed is logged, and was accepted.
            self.executor.sweep(&self.state.open_ids());
            self.still_here();
        }
        self.state.accept_residue();
    }

    /// A journal that can be opened by now is undone or kept like any other. A damaged one is set aside, so that no later start or
    /// rescue meets it; where that fails, as where another process holds it, the host stays dirty.
    fn accept_unopened(&mut self, id: &InjectionId) {
        self.take_over([id.clone()], TAKE_OVER_WAIT);
        if self.state.unopened(id).is_none() {
            return;
        }
        let journal_store = self.executor.journal_store();
        let gone = match journal_store.forget(id) {
            Err(JournalError::Damaged { .. }) => journal_store.set_aside(id),
            Err(JournalError::Absent { .. }) => Ok(()),
            forgotten => forgotten,
        };
        self.still_here();
        match gone {
            Ok(()) => {
                tracing::warn!(injection = %id, "a journal that cannot be read was accepted, and is not taken for one any more");
                self.state.settle_unopened(id);
            }
            Err(error) => {
                tracing::error!(error = chain(&error), injection = %id, "an accepted journal cannot be set aside: the host stays dirty");
            }
        }
    }
}
