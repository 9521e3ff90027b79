//! The core: commands and ticks in, deeds and reports out, all on one thread; it owns every injection of this host.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use agent_faults::AnyFault;
use agent_journal::JournalError;
use agent_levers::{History, HostOps, Shelf};
use agent_view::HostView;
use proto_model::catalogue::{Catalogue, FaultKind};
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, AgentReport, EndedBy, InjectionState};

use crate::active::{Active, Stage};
use crate::doctor::examine;
use crate::handle::{Command, Reply};
use crate::latch::Latches;
use crate::policy::Policy;
use crate::waits::Waits;

/// The longest sleep between two ticks: how stale the heartbeat may get by our own doing.
pub(crate) const TICK_MS: u64 = 250;
/// How often the host's latch and the residue are looked at.
const LOOK_EVERY_MS: u64 = 1_000;
/// Refusals and settled ids remembered, so that a repeated order is answered and never carried out twice.
const REMEMBERED: usize = 4_096;

/// What stands beside the warden's thread: its heartbeat and its guardian.
pub trait Attendant: Send {
    /// Called on every tick, at least four times a second: tell the guardian that we live, and look after it.
    fn tick(&mut self, boot_ms: u64);
    /// Whether somebody would put things right if this process died now.
    fn is_guarded(&self) -> bool;
    /// The warden has ended; `clean` when nothing is left that a guardian would have to undo.
    fn leave(&mut self, clean: bool);
}

/// The kinds of fault this agent has.
#[derive(Clone, Copy)]
pub struct Kinds {
    pub find: fn(&FaultKind) -> Option<&'static dyn AnyFault>,
    pub catalogue: fn() -> Catalogue,
}

/// Where reports go as they are made; must not block. What it drops is told again from the journal, except observations.
pub type ReportSink = Box<dyn Fn(AgentReport) + Send>;

/// What a warden is made of.
pub struct Parts {
    pub view: Arc<dyn HostView>,
    pub hands: Box<dyn HostOps>,
    pub shelf: Shelf,
    pub policy: Policy,
    pub kinds: Kinds,
    pub latches: Latches,
    pub attendant: Box<dyn Attendant>,
    pub reports: ReportSink,
}

/// What is remembered of an injection that has ended.
pub(crate) struct Ended {
    pub(crate) run: String,
    /// `Undone` or `Spent`.
    pub(crate) state: InjectionState,
}

impl Ended {
    pub(crate) fn of(history: &History) -> Self {
        let state = if history.is_spent() {
            InjectionState::Spent
        } else {
            InjectionState::Undone
        };
        Self {
            run: history.opened.run.clone(),
            state,
        }
    }
}

pub struct Warden {
    pub(crate) view: Arc<dyn HostView>,
    pub(crate) hands: Box<dyn HostOps>,
    pub(crate) shelf: Shelf,
    pub(crate) policy: Policy,
    pub(crate) kinds: Kinds,
    pub(crate) latches: Latches,
    pub(crate) attendant: Box<dyn Attendant>,
    reports: ReportSink,
    pub(crate) active: BTreeMap<InjectionId, Active>,
    /// Their journals are kept until settled.
    pub(crate) ended: BTreeMap<InjectionId, Ended>,
    /// Refused, or asked to stop before they were known: told until settled.
    pub(crate) refused: BTreeMap<InjectionId, AgentReport>,
    settled: VecDeque<InjectionId>,
    /// Journals that could not be opened, and why; their injections may still act.
    pub(crate) strays: BTreeMap<InjectionId, String>,
    /// What the last proof found left behind, and the injections it was asked for.
    pub(crate) residue: Vec<String>,
    pub(crate) suspects: BTreeSet<InjectionId>,
    pub(crate) controllers: Vec<SocketAddr>,
    pub(crate) waits: Waits,
    next_look_ms: u64,
    leaving: bool,
}

impl Warden {
    /// Takes over what an earlier process left: every open journal is rewound before anything else is done.
    pub fn new(parts: Parts) -> Result<Self, JournalError> {
        let mut warden = Self {
            next_look_ms: parts.view.boot_ms() + LOOK_EVERY_MS,
            view: parts.view,
            hands: parts.hands,
            shelf: parts.shelf,
            policy: parts.policy,
            kinds: parts.kinds,
            latches: parts.latches,
            attendant: parts.attendant,
            reports: parts.reports,
            active: BTreeMap::new(),
            ended: BTreeMap::new(),
            refused: BTreeMap::new(),
            settled: VecDeque::new(),
            strays: BTreeMap::new(),
            residue: Vec::new(),
            suspects: BTreeSet::new(),
            controllers: Vec::new(),
            waits: Waits::default(),
            leaving: false,
        };
        for id in warden.shelf.ids()? {
            warden.take_over(id);
        }
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
            Command::Preflight(wishes, reply) => reply(self.preflight(&wishes)),
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
            Command::Inventory(reply) => reply(self.inventory()),
            Command::Unsettled(reply) => reply(self.unsettled()),
            Command::Status(reply) => reply(self.status()),
            Command::Doctor(reply) => reply(examine(self.view.as_ref(), &self.policy, self.kinds, Ok(&self.shelf))),
            Command::Controllers(addresses) => self.controllers = addresses,
            Command::Accept { by, reason } => self.accept(&by, &reason),
            Command::Shutdown(by, reply) => self.shut_down(by, reply),
        }
    }

    /// Does whatever is due by now.
    pub fn tick(&mut self) {
        let now = self.view.boot_ms();
        self.attendant.tick(now);
        if now >= self.next_look_ms {
            self.next_look_ms = now + LOOK_EVERY_MS;
            self.look_around();
        }
        let due: Vec<InjectionId> = self
            .active
            .values()
            .filter(|a| a.next_due_ms() <= now)
            .map(|a| a.injection.clone())
            .collect();
        for id in due {
            match self.active.get(&id).map(|active| &active.stage) {
                Some(Stage::Holding(_)) => self.keep(&id),
                Some(Stage::Undoing(_)) => self.try_undo(&id),
                None => {}
            }
        }
    }

    /// How long the thread may sleep.
    pub fn idle_ms(&self) -> u64 {
        let now = self.view.boot_ms();
        let due = self.active.values().map(Active::next_due_ms).min().unwrap_or(u64::MAX);
        due.saturating_sub(now).clamp(1, TICK_MS)
    }

    /// True once it was told to leave and everything that could be undone is.
    pub fn has_left(&self) -> bool {
        self.leaving && self.waits.is_empty()
    }

    /// The last act: the guardian may go only when there is nothing left for it.
    pub(crate) fn leave(&mut self) {
        let clean = self.active.is_empty() && self.strays.is_empty();
        self.attendant.leave(clean);
    }

    fn shut_down(&mut self, by: EndedBy, reply: Reply<crate::handle::HaltAnswer>) {
        self.leaving = true;
        self.end_all(by, "the agent is leaving", reply);
    }

    /// A halt engaged by hand while we were not asked, residue that somebody may have removed, journals held elsewhere.
    fn look_around(&mut self) {
        self.hands.reap();
        let held = self.active.values().any(|a| matches!(a.stage, Stage::Holding(_)));
        if held && let Some(halted) = self.latches.engaged() {
            self.end_all(EndedBy::LocalHalt, &halted.reason, Box::new(drop));
        }
        for id in self.strays.keys().cloned().collect::<Vec<_>>() {
            self.take_over(id);
        }
        if !self.residue.is_empty() {
            let suspects: Vec<InjectionId> = self.suspects.iter().cloned().collect();
            self.verify(&suspects);
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving
    }

    pub(crate) fn send(&self, report: AgentReport) {
        (self.reports)(report);
    }

    /// Tells a fact of an active injection; recorded first when it must survive us.
    pub(crate) fn tell(&mut self, id: &InjectionId, fact: AgentFact, record: bool) {
        let Some(active) = self.active.get_mut(id) else { return };
        let report = active.teller.tell(self.view.as_ref(), fact);
        if record {
            crate::undoing::kept(active.journal.report(&report), "report");
        }
        self.send(report);
    }

    pub(crate) fn remember_refused(&mut self, report: AgentReport) {
        while self.refused.len() >= REMEMBERED {
            self.refused.pop_first();
        }
        self.refused.insert(report.injection.clone(), report);
    }

    pub(crate) fn was_settled(&self, id: &InjectionId) -> bool {
        self.settled.contains(id)
    }

    /// The controller has these ends; a repeated order for them is still known and not carried out.
    fn settle(&mut self, ids: &[InjectionId]) {
        for id in ids {
            let known = self.refused.remove(id).is_some() | self.forget(id);
            if known {
                self.settled.push_back(id.clone());
            }
        }
        while self.settled.len() > REMEMBERED {
            self.settled.pop_front();
        }
    }

    fn forget(&mut self, id: &InjectionId) -> bool {
        if self.ended.remove(id).is_none() {
            return false;
        }
        if let Err(error) = self.shelf.forget(id) {
            tracing::warn!(%error, injection = %id, "a settled journal cannot be removed");
        }
        true
    }
}
