//! From an order to a fault that acts: admitted, journalled, applied, told; an id is applied at most once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use agent_faults::{FaultError, Scene};
use agent_journal::Opened;
use agent_levers::{Journal, Levers, PullContext};
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, Applied, EndedBy, Wish};
use proto_model::problem::Refusal;
use serde_json::Value;

use crate::active::{ALIVE_EVERY_MS, Active, Holding, Stage, Windows};
use crate::admit::{Admitted, panic_text};
use crate::follow::Following;
use crate::handle::StartOrder;
use crate::protection::Wards;
use crate::teller::Teller;
use crate::undoing::{Undoing, kept};
use crate::warden::{Ended, Warden};

/// What a lease may be.
pub(crate) const LEASE_MS: std::ops::RangeInclusive<u64> = 500..=60_000;

/// The kernel's own deadline is this much after ours, so that an agent that lives always ends its faults itself
/// and never mistakes the kernel's end for an early one.
const KERNEL_AFTER_MS: u64 = 250;

/// How long the kernel may hold a fault by itself: what is left of the duration or the lease, and a moment.
pub(crate) fn kernel_holds(left_ms: u64, lease_ms: u64) -> u64 {
    left_ms.min(lease_ms) + KERNEL_AFTER_MS
}

/// What is done to the host, once it may be.
pub(crate) type Deed<'a> = &'a dyn Fn(&Scene<'_>, &mut Levers<'_>) -> Result<Value, FaultError>;

impl Warden {
    pub(crate) fn start(&mut self, order: StartOrder) {
        let id = order.injection.clone();
        if self.is_known(&id) {
            tracing::info!(injection = %id, "a repeated order is answered with what became of the first");
            return self.tell_again(&id);
        }
        let admitted = check_lease(order.lease_ms).and_then(|()| self.admit(&order.wish));
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
        let mut teller = Teller::new(order.injection.clone(), order.run.to_string());
        let report = teller.tell(self.view.as_ref(), AgentFact::Refused(refusal));
        self.remember_refused(report.clone());
        self.send(report);
    }

    /// The journal comes first: without it nothing is touched.
    fn open(&mut self, order: &StartOrder, admitted: &Admitted) -> Result<Journal, Refusal> {
        let now = self.view.boot_ms();
        let opened = Opened {
            injection: order.injection.clone(),
            run: order.run.to_string(),
            kind: order.wish.fault.to_string(),
            params: admitted.params.clone(),
            boot_id: self.view.boot_id(),
            opened_boot_ms: now,
            deadline_boot_ms: now + admitted.duration_ms,
            plan_digest: order.plan_digest.to_string(),
        };
        self.shelf
            .create(opened)
            .map_err(|error| Refusal::new("journal", "", format!("the way back cannot be written down: {}", chain(&error))))
    }

    fn apply(&mut self, order: StartOrder, admitted: Admitted, mut journal: Journal) {
        let began = self.view.boot_ms();
        let deed: Deed<'_> = &|scene, levers| admitted.fault.apply(&admitted.params, scene, levers);
        let result = self.pull(&order, &mut journal, deed);
        if let Ok(effect) = &result {
            kept(journal.applied(effect), "effect");
        }
        let now = self.view.boot_ms();
        let deadline_ms = journal.history().opened.deadline_boot_ms;
        let effect = result.clone().unwrap_or_default();
        let holding = Holding {
            fault: admitted.fault,
            following: Following::new(admitted.fault.names(&admitted.params), admitted.fault.groups(&effect), now),
            next_deed_ms: admitted.fault.due(&effect),
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
            teller: Teller::new(id.clone(), order.run.to_string()),
            journal,
            stage: Stage::Holding(holding),
        };
        self.active.insert(id.clone(), active);
        match result {
            Ok(effect) => {
                tracing::info!(injection = %id, run = %order.run, fault = %order.wish.fault, "applied");
                let applied = Applied {
                    noop: effect.get("noop").and_then(Value::as_bool).unwrap_or(false),
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

    /// The deed itself, at whose border a panic stops. What was pulled before it failed is in the journal.
    pub(crate) fn pull(&mut self, order: &StartOrder, journal: &mut Journal, deed: Deed<'_>) -> Result<Value, String> {
        let view = self.view.clone();
        let wards = Wards::of(&self.policy, view.as_ref()).with_journals(&self.shelf.folders(), view.as_ref());
        let scene = Scene {
            view: view.as_ref(),
            protection: &wards,
            seed: order.wish.seed,
            duration_ms: order.wish.duration_ms,
        };
        let context = PullContext {
            injection: order.injection.clone(),
            kind: order.wish.fault.to_string(),
            seed: order.wish.seed,
            deadline_boot_ms: journal.history().opened.deadline_boot_ms,
            gate_ms: kernel_holds(
                journal.history().opened.deadline_boot_ms.saturating_sub(view.boot_ms()),
                order.lease_ms,
            ),
            spared: wards.spared(&self.controllers),
        };
        let mut levers = Levers::new(journal, self.hands.as_mut(), view.as_ref(), context);
        let applied = catch_unwind(AssertUnwindSafe(|| deed(&scene, &mut levers)));
        match applied {
            Ok(result) => result.map_err(|error| chain(&error)),
            Err(panic) => Err(format!("the fault panicked: {}", panic_text(&*panic))),
        }
    }

    /// The same for one that acts, which is taken out meanwhile: its deed may not change what else is held.
    pub(crate) fn pull_again(&mut self, id: &InjectionId, order: &StartOrder, deed: Deed<'_>) -> Option<Result<Value, String>> {
        let mut active = self.active.remove(id)?;
        let pulled = self.pull(order, &mut active.journal, deed);
        self.active.insert(id.clone(), active);
        Some(pulled)
    }

    /// Finds an earlier process's journal: closed ones are kept until settled, open ones are undone now.
    pub(crate) fn take_over(&mut self, id: InjectionId) {
        match self.open_left(&id) {
            Ok(true) => self.try_undo(&id),
            Ok(false) => {}
            Err(error) => {
                let why = chain(&error);
                if self.strays.insert(id.clone(), format!("journal of {id}: {why}")).is_none() {
                    tracing::error!(injection = %id, why, "a journal cannot be taken over");
                }
                return;
            }
        }
        self.strays.remove(&id);
    }

    /// True when it was open and is being undone now.
    fn open_left(&mut self, id: &InjectionId) -> Result<bool, agent_journal::JournalError> {
        let history = self.shelf.read(id)?;
        if !history.is_open() {
            self.ended.insert(id.clone(), Ended::of(&history));
            return Ok(false);
        }
        let mut journal = self.shelf.lock(id, std::time::Duration::from_millis(500))?;
        if !journal.history().is_open() {
            self.ended.insert(id.clone(), Ended::of(journal.history()));
            return Ok(false);
        }
        let by = if history.opened.boot_id == self.view.boot_id() {
            EndedBy::Rescue
        } else {
            EndedBy::Boot
        };
        let mut teller = Teller::resume(journal.history());
        let (undoing, report) = Undoing::begin(by, None, &mut journal, &mut teller, self.view.as_ref());
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
        self.active.insert(id.clone(), active);
        self.send(report);
        Ok(true)
    }
}

fn check_lease(lease_ms: u64) -> Result<(), Refusal> {
    if LEASE_MS.contains(&lease_ms) {
        return Ok(());
    }
    Err(
        Refusal::new("invalid_lease", "lease", format!("a lease of {lease_ms} ms is out of range")).allowed(format!(
            "{}..{} ms",
            LEASE_MS.start(),
            LEASE_MS.end()
        )),
    )
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
