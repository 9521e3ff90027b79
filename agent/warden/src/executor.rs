//! What acts on this host for the warden: it pulls, renews and undoes by levers, under journals; it decides nothing.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use agent_faults::{FaultError, Scene};
use agent_levers::{History, HostOps, Journal, JournalStore, Levers, OpsError, PullContext, Swept, sweep};
use agent_view::HostView;
use proto_model::id::InjectionId;
use proto_model::injection::UndoFailed;
use serde_json::Value;

use crate::causes::{chain, panic_text};
use crate::handle::StartOrder;
use crate::lease::kernel_holds;
use crate::policy::Policy;
use crate::protection::ProtectedResources;
use crate::undoing::{PutRight, Undoing};

/// What is done to the host, once it may be.
pub(crate) type HostAction<'a> = &'a dyn Fn(&Scene<'_>, &mut Levers<'_>) -> Result<Value, FaultError>;

pub(crate) struct Executor {
    view: Arc<dyn HostView>,
    ops: Box<dyn HostOps>,
    journal_store: JournalStore,
    policy: Arc<Policy>,
    /// Addresses that no fault may cut.
    controllers: Vec<SocketAddr>,
}

impl Executor {
    pub(crate) fn new(view: Arc<dyn HostView>, ops: Box<dyn HostOps>, journal_store: JournalStore, policy: Arc<Policy>) -> Self {
        Self {
            view,
            ops,
            journal_store,
            policy,
            controllers: Vec::new(),
        }
    }

    pub(crate) fn view(&self) -> &Arc<dyn HostView> {
        &self.view
    }

    pub(crate) fn journal_store(&self) -> &JournalStore {
        &self.journal_store
    }

    /// What is pulled from here on leaves them alone.
    pub(crate) fn spare_controllers(&mut self, addresses: Vec<SocketAddr>) {
        self.controllers = addresses;
    }

    /// So does what was pulled already.
    pub(crate) fn spare_controllers_of(&mut self, history: &History) -> Vec<OpsError> {
        agent_levers::spare(history, self.ops.as_mut(), &self.controllers)
    }

    /// Workers that have ended leave nothing behind.
    pub(crate) fn reap(&mut self) {
        self.ops.reap();
    }

    /// The deed itself, at whose border a panic stops. What was pulled before it failed is in the journal.
    pub(crate) fn pull(&mut self, order: &StartOrder, journal: &mut Journal, action: HostAction<'_>) -> Result<Value, String> {
        let view = self.view.clone();
        let protected = ProtectedResources::of(&self.policy, view.as_ref()).with_journals(&self.journal_store.folders(), view.as_ref());
        let scene = Scene {
            view: view.as_ref(),
            protection: &protected,
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
            exemptions: protected.exemptions(&self.controllers),
        };
        let mut levers = Levers::new(journal, self.ops.as_mut(), view.as_ref(), context);
        let applied = catch_unwind(AssertUnwindSafe(|| action(&scene, &mut levers)));
        match applied {
            Ok(result) => result.map_err(|error| chain(&error)),
            Err(panic) => Err(format!("the fault panicked: {}", panic_text(&*panic))),
        }
    }

    /// Lets the kernel hold for another while what an injection pulled.
    pub(crate) fn renew(&mut self, history: &History, gate_ms: u64) -> Vec<OpsError> {
        agent_levers::renew(history, self.ops.as_mut(), gate_ms)
    }

    /// Removes what carries our name and belongs to none of these injections.
    pub(crate) fn sweep(&mut self, open: &[InjectionId]) -> Swept {
        sweep(self.ops.as_mut(), self.view.as_ref(), &|| open.to_vec())
    }

    /// Begins a try at undoing: what ends at once has ended when it returns.
    pub(crate) fn begin_undo(&mut self, undoing: &mut Undoing, journal: &mut Journal) {
        undoing.begin_attempt(journal, self.ops.as_mut(), self.view.as_ref());
    }

    /// One try at undoing; `Ok` when nothing of the injection is left.
    pub(crate) fn undo(&mut self, undoing: &mut Undoing, journal: &mut Journal, others: &[InjectionId]) -> Result<PutRight, UndoFailed> {
        undoing.attempt(journal, self.ops.as_mut(), self.view.as_ref(), others)
    }
}
