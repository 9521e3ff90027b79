//! The core: commands and ticks in, deeds and reports out, all on one thread; it owns every injection of this host.

use std::sync::Arc;
use std::time::Duration;

use agent_journal::JournalError;
use agent_levers::{HostOps, JournalStore};
use agent_view::HostView;
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, AgentReport, EndedBy};

use crate::active::{Active, Stage};
use crate::admission::{Admission, Readiness};
use crate::doctor::examine;
use crate::executor::Executor;
use crate::handle::{Command, HaltAnswer, Reply};
use crate::journal_fix::with_fix;
use crate::kinds::Kinds;
use crate::latch::Latches;
use crate::pending_replies::PendingReplies;
use crate::policy::Policy;
use crate::state::State;

mod answers;
mod end;
mod keep;
mod start;

/// The longest sleep between two ticks while an injection is held or to be undone.
const TICK_MS: u64 = 250;
/// How often the host's latch and the residue are looked at.
const LOOK_EVERY_MS: u64 = 1_000;
/// How long a journal is waited for that another process may be about to let go.
const TAKE_OVER_WAIT: Duration = Duration::from_millis(500);
/// What stands beside the warden's thread: its heartbeat and its guardian.
pub trait Guardian: Send {
    /// Called on every tick: tell the guardian that we live, and look after it.
    fn tick(&mut self, boot_ms: u64);
    /// The longest time between two ticks.
    fn patience_ms(&self) -> u64;
    /// Whether somebody would put things right if this process died now.
    fn is_guarded(&self) -> bool;
    /// The warden has ended; `clean` when nothing is left that a guardian would have to undo.
    fn leave(&mut self, clean: bool);
}

/// Where reports go as they are made; must not block. What it drops is told again from the journal, except observations.
pub type ReportSink = Box<dyn Fn(AgentReport) + Send>;

/// What a warden is made of.
pub struct Parts {
    pub view: Arc<dyn HostView>,
    pub hands: Box<dyn HostOps>,
    pub journal_store: JournalStore,
    pub policy: Policy,
    pub kinds: Kinds,
    pub latches: Latches,
    pub guardian: Box<dyn Guardian>,
    pub reports: ReportSink,
}

pub struct Warden {
    state: State,
    executor: Executor,
    policy: Arc<Policy>,
    kinds: Kinds,
    latches: Latches,
    guardian: Box<dyn Guardian>,
    reports: ReportSink,
    waits: PendingReplies,
    next_look_ms: u64,
    leaving: bool,
}

impl Warden {
    /// Takes over what an earlier process left: every open journal is rewound before anything else is done, and then the host is looked at.
    pub fn new(parts: Parts) -> Result<Self, JournalError> {
        let policy = Arc::new(parts.policy);
        let mut warden = Self {
            next_look_ms: parts.view.boot_ms() + LOOK_EVERY_MS,
            state: State::default(),
            executor: Executor::new(parts.view, parts.hands, parts.journal_store, policy.clone()),
            policy,
            kinds: parts.kinds,
            latches: parts.latches,
            guardian: parts.guardian,
            reports: parts.reports,
            waits: PendingReplies::default(),
            leaving: false,
        };
        warden.take_over(warden.executor.journal_store().ids()?, TAKE_OVER_WAIT);
        warden.prove_at_start();
        Ok(warden)
    }

    /// Does one command; its answer may come later, from a tick.
    pub fn command(&mut self, command: Command) {
        match command {
            Command::Start(order, reply) => {
                self.start(order);
                reply(());
            }
            Command::Stop(id, by, reply) => self.stop(id, by, reply),
            Command::Renew(ids, lease_ms) => self.renew(&ids, lease_ms),
            Command::Preflight(wishes, reply) => {
                let store = self.executor.journal_store();
                let why = store.check().err().map(|error| with_fix(&error, store, self.view()));
                reply(self.admission(why).preflight(&wishes));
            }
            Command::Verify(ids, reply) => reply(self.verify(&ids)),
            Command::Halt { epoch, reason, reply } => self.halt(epoch, &reason, reply),
            Command::Release { epoch } => {
                let taken = self.latches.controller_says(epoch, false, "");
                tracing::info!(epoch, taken, "released by the controller");
            }
            Command::LocalHalt { reason, reply } => {
                self.latches.engage_host(&reason);
                self.end_all(EndedBy::LocalHalt, &reason, reply);
            }
            Command::LocalRelease(reply) => reply(self.local_release()),
            Command::Settle(ids) => self.settle(&ids),
            Command::Inventory(reply) => reply(self.state.inventory()),
            Command::Unsettled(reply) => reply(self.unsettled()),
            Command::Status(reply) => reply(self.status()),
            Command::Doctor(reply) => reply(examine(self.view(), &self.policy, self.kinds, Ok(self.executor.journal_store()))),
            Command::Controllers(addresses) => self.spare_controllers(addresses),
            Command::Accept { by, reason } => self.accept(&by, &reason),
            Command::Shutdown(by, reply) => self.shut_down(by, reply),
        }
    }

    /// Does whatever is due by now.
    pub fn tick(&mut self) {
        let now = self.view().boot_ms();
        self.guardian.tick(now);
        if now >= self.next_look_ms {
            self.next_look_ms = now + LOOK_EVERY_MS;
            self.look_around();
        }
        let due: Vec<InjectionId> = self
            .state
            .actives()
            .filter(|a| a.next_due_ms() <= now)
            .map(|a| a.injection.clone())
            .collect();
        for id in &due {
            match self.state.active(id).map(|active| &active.stage) {
                Some(Stage::Holding(_)) => self.keep(id),
                Some(Stage::Undoing(_)) => self.begin_undo(id),
                None => {}
            }
            self.still_here();
        }
        self.finish_undos(&due);
    }

    /// What was done may have taken seconds: the guardian must not take that for silence, nor what comes next as well.
    fn still_here(&mut self) {
        self.guardian.tick(self.executor.view().boot_ms());
    }

    /// How long the thread may sleep.
    pub fn idle_ms(&self) -> u64 {
        let now = self.view().boot_ms();
        let due = self.state.actives().map(Active::next_due_ms).min().unwrap_or(u64::MAX);
        let look = if self.state.is_idle() { LOOK_EVERY_MS } else { TICK_MS };
        due.saturating_sub(now).clamp(1, look.min(self.guardian.patience_ms()).max(1))
    }

    /// True once it was told to leave and everything that could be undone is.
    pub fn has_left(&self) -> bool {
        self.leaving && self.waits.is_empty()
    }

    /// The last act: the guardian may go only when there is nothing left for it.
    pub(crate) fn leave(&mut self) {
        self.guardian.leave(self.state.is_idle());
    }

    fn shut_down(&mut self, by: EndedBy, reply: Reply<HaltAnswer>) {
        self.leaving = true;
        self.end_all(by, "the agent is leaving", reply);
    }

    /// A halt engaged by hand while we were not asked, residue that may be gone, what could not be looked at, journals held elsewhere.
    fn look_around(&mut self) {
        self.executor.reap();
        if self.state.is_holding()
            && let Some(halted) = self.latches.engaged()
        {
            self.end_all(EndedBy::LocalHalt, &halted.reason, Box::new(drop));
        }
        // It comes again in a second, so none is waited for.
        let unopened: Vec<InjectionId> = self.state.all_unopened().keys().cloned().collect();
        self.take_over(unopened, Duration::ZERO);
        if self.state.has_residue() || self.state.unproven().is_some() {
            self.verify(&self.state.suspects());
        }
    }

    fn view(&self) -> &dyn HostView {
        self.executor.view().as_ref()
    }

    /// This host as a new wish meets it; `journal` is why no journal can be written.
    fn admission(&self, journal: Option<String>) -> Admission<'_> {
        let readiness = Readiness {
            leaving: self.leaving,
            halted: self.latches.engaged(),
            guarded: self.guardian.is_guarded(),
            residue: self.state.all_residue().into_iter().next(),
            unproven: self.state.unproven().cloned(),
            journal,
        };
        let journals = self.executor.journal_store().folders();
        let active = self.state.actives().collect();
        Admission::new(self.view(), &self.policy, self.kinds, readiness, active, journals)
    }

    fn send(&self, report: AgentReport) {
        (self.reports)(report);
    }

    /// Tells a fact of an active injection; recorded first when it must survive us.
    fn tell(&mut self, id: &InjectionId, fact: AgentFact, record: bool) {
        let Some(active) = self.state.active_mut(id) else { return };
        let report = active.teller.tell(self.executor.view().as_ref(), fact);
        if record {
            crate::undoing::kept(active.journal.report(&report), "report");
        }
        self.send(report);
    }

    /// The controller has these ends.
    fn settle(&mut self, ids: &[InjectionId]) {
        for id in ids {
            if self.state.settle(id)
                && let Err(error) = self.executor.journal_store().forget(id)
            {
                tracing::warn!(%error, injection = %id, "a settled journal cannot be removed");
            }
        }
    }
}
