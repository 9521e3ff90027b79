//! From an order to a fault that acts: admitted, journalled, applied, told; an id is applied at most once.

use agent_journal::{JournalError, Opened};
use agent_levers::Journal;
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, Applied, EndedBy, Wish};
use proto_model::problem::Refusal;
use serde_json::Value;
use std::time::Duration;

use super::Warden;
use crate::active::{ALIVE_EVERY_MS, Active, Holding, Stage, WINDOW_MS, Windows};
use crate::admission::{Admitted, unwritable};
use crate::causes::chain;
use crate::executor::HostAction;
use crate::following::Following;
use crate::handle::StartOrder;
use crate::journal_fix::with_fix;
use crate::lease::check_lease;
use crate::report_sequence::ReportSequence;
use crate::undoing::{Undoing, kept};

impl Warden {
    pub(super) fn start(&mut self, order: StartOrder) {
        let id = order.injection.clone();
        if self.state.is_known(&id) {
            tracing::info!(injection = %id, "a repeated order is answered with what became of the first");
            return self.tell_again(&id);
        }
        let admitted = check_lease(order.lease_ms).and_then(|()| self.admission(None).admit(&order.wish));
        let opened = admitted.and_then(|admitted| self.open(&order, &admitted).map(|journal| (admitted, journal)));
        match opened {
            Ok((admitted, journal)) => {
                // From here on the order says what was admitted: every default written out.
                let (params, duration_ms) = (admitted.params.clone(), admitted.duration_ms);
                self.apply(
                    StartOrder {
                        wish: Wish {
                            params,
                            duration_ms,
                            ..order.wish
                        },
                        ..order
                    },
                    admitted,
                    journal,
                );
            }
            Err(refusal) => self.refuse(&order, refusal),
        }
    }

    fn refuse(&mut self, order: &StartOrder, refusal: Refusal) {
        tracing::info!(injection = %order.injection, fault = %order.wish.fault, code = refusal.code, message = refusal.message, "refused");
        let mut teller = ReportSequence::new(order.injection.clone(), order.run.to_string());
        let report = teller.tell(self.view(), AgentFact::Refused(refusal));
        self.state.remember_refused(report.clone());
        self.send(report);
    }

    /// The journal comes first: without it nothing is touched.
    fn open(&self, order: &StartOrder, admitted: &Admitted) -> Result<Journal, Refusal> {
        let now = self.view().boot_ms();
        let opened = Opened {
            injection: order.injection.clone(),
            run: order.run.to_string(),
            kind: order.wish.fault.to_string(),
            params: admitted.params.clone(),
            boot_id: self.view().boot_id(),
            opened_boot_ms: now,
            deadline_boot_ms: now + admitted.duration_ms,
            plan_digest: order.plan_digest.to_string(),
        };
        self.executor
            .journal_store()
            .create(opened)
            .map_err(|error| unwritable(&with_fix(&error, self.executor.journal_store(), self.view())))
    }

    fn apply(&mut self, order: StartOrder, admitted: Admitted, mut journal: Journal) {
        let began = self.view().boot_ms();
        let action: HostAction<'_> = &|scene, levers| admitted.fault.apply(&admitted.params, scene, levers);
        let result = self.executor.pull(&order, &mut journal, action);
        if let Ok(effect) = &result {
            kept(journal.applied(effect), "effect");
        }
        let now = self.view().boot_ms();
        let effect = result.clone().unwrap_or_default();
        let noop = effect.get("noop").and_then(Value::as_bool).unwrap_or(false);
        let mut deadline_ms = journal.history().opened.deadline_boot_ms;
        // What was so already, and took nothing, is looked at and let go: its time is over when it has been seen.
        if noop && journal.history().intents.is_empty() {
            deadline_ms = deadline_ms.min(now + admitted.fault.settle_ms() + 2 * WINDOW_MS.0);
        }
        let holding = Holding {
            fault: admitted.fault,
            following: Following::new(admitted.fault.names(&admitted.params), admitted.fault.groups(&effect), now),
            next_action_ms: admitted.fault.due(&effect),
            effect,
            order: Box::new(order.clone()),
            lease_until_ms: now + order.lease_ms,
            next_alive_ms: now + ALIVE_EVERY_MS,
            windows: Windows::plan(now, deadline_ms.saturating_sub(now), admitted.fault.settle_ms()),
        };
        let id = order.injection.clone();
        let active = Active {
            injection: id.clone(),
            run: order.run.to_string(),
            kind: order.wish.fault.to_string(),
            deadline_ms,
            claims: admitted.claims,
            teller: ReportSequence::new(id.clone(), order.run.to_string()),
            journal,
            stage: Stage::Holding(holding),
        };
        self.state.keep(active);
        match result {
            Ok(effect) => {
                tracing::info!(injection = %id, run = %order.run, fault = %order.wish.fault, "applied");
                let applied = Applied {
                    noop,
                    effect,
                    engine: admitted.preflight.engine,
                    apply_ms: now.saturating_sub(began),
                    deadline_boot_ms: deadline_ms,
                };
                self.tell(&id, AgentFact::Applied(applied), true);
            }
            Err(reason) => self.end(&id, EndedBy::ApplyFailed, Some(reason)),
        }
    }

    /// The same for one that acts, which is taken out meanwhile: its deed may not change what else is held.
    pub(super) fn pull_again(&mut self, id: &InjectionId, order: &StartOrder, action: HostAction<'_>) -> Option<Result<Value, String>> {
        let mut active = self.state.take(id)?;
        let pulled = self.executor.pull(order, &mut active.journal, action);
        self.state.keep(active);
        Some(pulled)
    }

    /// Finds the journals of an earlier process: closed ones are kept until settled, open ones are undone now, together.
    pub(super) fn take_over(&mut self, ids: impl IntoIterator<Item = InjectionId>, wait: Duration) {
        let ids: Vec<InjectionId> = ids.into_iter().collect();
        for id in &ids {
            self.begin_take_over(id, wait);
            self.still_here();
        }
        self.finish_undos(&ids);
    }

    fn begin_take_over(&mut self, id: &InjectionId, wait: Duration) {
        match self.open_left(id, wait) {
            Ok(true) => self.begin_undo(id),
            Ok(false) => {}
            Err(error) => {
                let why = chain(&error);
                if self.state.mark_unopened(id.clone(), format!("journal of {id}: {why}")) {
                    tracing::error!(injection = %id, why, "a journal cannot be taken over");
                }
                return;
            }
        }
        self.state.mark_opened(id);
    }

    /// True when it was open and is being undone now.
    fn open_left(&mut self, id: &InjectionId, wait: Duration) -> Result<bool, JournalError> {
        let history = self.executor.journal_store().read(id)?;
        if !history.is_open() {
            self.state.remember_end(&history);
            return Ok(false);
        }
        let mut journal = self.executor.journal_store().lock(id, wait)?;
        if !journal.history().is_open() {
            self.state.remember_end(journal.history());
            return Ok(false);
        }
        let by = if history.opened.boot_id == self.view().boot_id() {
            EndedBy::Rescue
        } else {
            EndedBy::Boot
        };
        let mut teller = ReportSequence::resume(journal.history());
        let (undoing, report) = Undoing::begin(by, None, &mut journal, &mut teller, self.view());
        tracing::warn!(injection = %id, fault = history.opened.kind, ended_by = undoing.by.as_str(), "an injection was left behind and is undone");
        let active = Active {
            injection: id.clone(),
            run: history.opened.run,
            kind: history.opened.kind,
            deadline_ms: history.opened.deadline_boot_ms,
            claims: Vec::new(),
            journal,
            teller,
            stage: Stage::Undoing(undoing),
        };
        self.state.keep(active);
        self.send(report);
        Ok(true)
    }
}
