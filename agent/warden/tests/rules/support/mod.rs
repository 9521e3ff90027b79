//! The fake host, kinds of fault that only tests have, and a warden on top of both; time moves only when a test says so.

mod host;
mod kinds;

use agent_levers::JournalStore;
use agent_levers::fake::FakeHost;
use agent_warden::{AgentStatus, Command, Guardian, HaltAnswer, Latches, Parts, Policy, Reply, StartOrder, Warden, WardenError};
use proto_model::catalogue::FaultKind;
use proto_model::id::{InjectionId, PlanDigest, RunId};
use proto_model::injection::{AgentFact, AgentReport, CleanProof, EndedBy, PreflightAnswer, UndoAnswer, Undone, Wish};
use proto_model::problem::Refusal;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

pub use host::{Host, KNOB, REDIS};

/// Counts how often it hears that the warden lives.
pub struct Guard(pub Arc<AtomicBool>, pub Arc<AtomicU32>);

impl Guardian for Guard {
    fn tick(&mut self, _boot_ms: u64) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
    fn patience_ms(&self) -> u64 {
        u64::MAX
    }
    fn is_guarded(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    fn leave(&mut self, _clean: bool) {}
}

/// A warden, its host, and what it told.
pub struct Bench {
    pub host: Host,
    pub guarded: Arc<AtomicBool>,
    /// How often the guardian heard of the warden.
    pub ticks: Arc<AtomicU32>,
    pub dir: TempDir,
    pub warden: Warden,
    told: Receiver<AgentReport>,
    pub reports: Vec<AgentReport>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with_policy(Policy::default())
    }

    pub fn with_policy(policy: Policy) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::on(Host::new(), dir, policy)
    }

    fn on(host: Host, dir: TempDir, policy: Policy) -> Self {
        let (sender, told) = channel();
        let guarded = Arc::new(AtomicBool::new(true));
        let ticks = Arc::new(AtomicU32::new(0));
        let sender = Mutex::new(sender);
        let parts = Parts {
            view: Arc::new(FakeHost::clone(&host)),
            hands: Box::new(FakeHost::clone(&host)),
            journal_store: JournalStore::open(&dir.path().join("journal"), &dir.path().join("mirror")).unwrap(),
            policy,
            kinds: kinds::KINDS,
            latches: Latches::open(dir.path()),
            guardian: Box::new(Guard(guarded.clone(), ticks.clone())),
            reports: Box::new(move |report| drop(sender.lock().unwrap().send(report))),
        };
        let warden = Warden::new(parts).unwrap();
        Self {
            host,
            guarded,
            ticks,
            dir,
            warden,
            told,
            reports: Vec::new(),
        }
    }

    /// The process dies without a word and another one starts on the same host.
    pub fn crash(self) -> Self {
        let Self { host, dir, warden, .. } = self;
        drop(warden);
        Self::on(host, dir, Policy::default())
    }

    pub fn order(&self, kind: &str, params: Value) -> StartOrder {
        StartOrder {
            injection: InjectionId::generate(),
            run: RunId::generate(),
            lease_ms: 5_000,
            plan_digest: PlanDigest("sha256:0".into()),
            wish: Wish {
                fault: FaultKind::parse(kind).unwrap(),
                params,
                duration_ms: 60_000,
                seed: 1,
                beside: Vec::new(),
                unattended: false,
            },
        }
    }

    /// Orders a fault that is expected to hold.
    pub fn hold(&mut self) -> InjectionId {
        let order = self.order("test.hold", json!({}));
        let id = order.injection.clone();
        self.start(order);
        assert!(
            matches!(self.facts(&id).last(), Some(AgentFact::Applied(_))),
            "{:?}",
            self.facts(&id)
        );
        id
    }

    pub fn start(&mut self, order: StartOrder) {
        self.warden.command(Command::Start(order, Box::new(drop)));
        self.listen();
    }

    /// Orders a fault that is expected to be refused.
    pub fn refused(&mut self, order: StartOrder) -> Refusal {
        let id = order.injection.clone();
        self.start(order);
        match self.facts(&id).last() {
            Some(AgentFact::Refused(refusal)) => refusal.clone(),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Lets time pass in steps of a tick.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.host.advance(100);
            self.warden.tick();
        }
        self.listen();
    }

    /// As a controller does: renews while time passes.
    pub fn pass_renewing(&mut self, id: &InjectionId, ms: u64) {
        for _ in 0..ms / 1_000 {
            self.warden.command(Command::Renew(vec![id.clone()], 5_000));
            self.pass(1_000);
        }
    }

    fn listen(&mut self) {
        self.reports.extend(self.told.try_iter());
    }

    pub fn facts(&self, id: &InjectionId) -> Vec<AgentFact> {
        self.reports.iter().filter(|r| &r.injection == id).map(|r| r.fact.clone()).collect()
    }

    /// The end that was told; panics when there is none.
    pub fn undone(&self, id: &InjectionId) -> Undone {
        let end = self.facts(id).into_iter().rev().find_map(|fact| match fact {
            AgentFact::Undone(undone) => Some(undone),
            _ => None,
        });
        end.unwrap_or_else(|| panic!("no end was told: {:?}", self.facts(id)))
    }

    fn ask<T: Send + 'static>(&mut self, command: impl FnOnce(Reply<T>) -> Command) -> Option<T> {
        let (sender, receiver) = sync_channel(1);
        self.warden.command(command(Box::new(move |answer| drop(sender.send(answer)))));
        self.listen();
        receiver.try_recv().ok()
    }

    /// `None` as long as the answer is not there.
    pub fn stop(&mut self, id: &InjectionId) -> Option<Result<UndoAnswer, WardenError>> {
        let id = id.clone();
        self.ask(|reply| Command::Stop(id, EndedBy::Stop, reply))
    }

    pub fn halt(&mut self, epoch: u64) -> Option<HaltAnswer> {
        let reason = "fire".to_owned();
        self.ask(|reply| Command::Halt { epoch, reason, reply })
    }

    pub fn status(&mut self) -> AgentStatus {
        self.ask(Command::Status).unwrap()
    }

    pub fn verify(&mut self, ids: &[InjectionId]) -> CleanProof {
        let ids = ids.to_vec();
        self.ask(|reply| Command::Verify(ids, reply)).unwrap()
    }

    pub fn preflight(&mut self, wish: Wish) -> PreflightAnswer {
        self.ask(|reply| Command::Preflight(vec![wish], reply)).unwrap().remove(0)
    }

    pub fn unsettled(&mut self) -> Vec<AgentReport> {
        self.ask(Command::Unsettled).unwrap()
    }
}
