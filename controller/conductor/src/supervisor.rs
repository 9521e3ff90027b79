//! All runs of this controller: takes them on, stops them, halts, and ends what a former controller left. It never sees inside a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use controller_policy::{ActiveRun, Policy, Stage};
use controller_report::{InjectionStatus, RunState};
use controller_store::{Actor, LastLook, StoreError, StoreHandle, append_unless};
use proto_model::document::{ErrorBody, RunDocument};
use proto_model::event::{Event, EventBody, NewEvent, StopCause};
use proto_model::halt::HaltState;
use proto_model::host::Connection;
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{EndedBy, Injection, InjectionState};
use proto_model::plan::PlanView;
use proto_model::time::Timestamp;
use proto_probes::AddressRule;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use crate::active::ActiveRuns;
use crate::anchors::Anchors;
use crate::answers::{Accepted, HaltAnswer, StopAnswer, StopOutcome, StopTarget};
use crate::clock::RunClock;
use crate::driver::{Driver, INBOX, Means};
use crate::going::Going;
use crate::host_gateway::{HaltOutcome, HostGateway};
use crate::host_proof::HostProof;
use crate::latch::Latch;
use crate::late::LateReports;
use crate::leases::{Leased, Leases};
use crate::machine::{Conductor, Decision, Input};
use crate::mass_loss::Losses;
use crate::settings::Settings;
use crate::summaries;
use crate::unclean::Unclean;
use crate::until_over::{ends, until_over};

/// Events a watcher may lag behind before it reads from the store again.
const NEWS: usize = 4_096;
/// Proofs that may wait to be kept.
const PROOFS: usize = 1_024;
/// How long a halt waits for the hosts' answers.
const HALT_WAIT_MS: u64 = 5_000;
/// How long a stop waits until its effect is gone.
const STOP_WAIT: Duration = Duration::from_secs(60);
/// How long one run's full inbox may hold up what a host says.
pub(crate) const INBOX_WAIT: Duration = Duration::from_secs(5);

pub struct SupervisorParts {
    pub store: StoreHandle,
    pub voice: Arc<dyn HostGateway>,
    pub latch: Arc<dyn Latch>,
    /// Shared with the dispatcher: injections that a run of this controller answers for.
    pub known: Arc<Mutex<BTreeSet<InjectionId>>>,
    pub policy: Policy,
    /// What controller probes may ask.
    pub rule: AddressRule,
    pub settings: Settings,
    pub clock: RunClock,
}

#[derive(Clone)]
pub struct Supervisor(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub parts: SupervisorParts,
    runs: Mutex<BTreeMap<RunId, Going>>,
    pub news: broadcast::Sender<Event>,
    proofs: mpsc::Sender<HostProof>,
    pub unclean: Unclean,
    pub late: LateReports,
    active: ActiveRuns,
    pub leases: Leases,
    /// One start at a time, so that two cannot both find room.
    turn: tokio::sync::Mutex<()>,
    /// Held while a finished run is amended.
    pub amending: tokio::sync::Mutex<()>,
    /// The newest epoch given out here.
    epoch: Mutex<u64>,
    /// Hosts that fell silent not long ago.
    pub losses: Mutex<Losses>,
    /// How hosts' boot clocks stand to the clock of runs.
    pub anchors: Mutex<Anchors>,
    /// The controller ends: sessions are closed by itself.
    leaving: AtomicBool,
}

impl Supervisor {
    /// Must be called inside a runtime: what hosts prove is kept by a task of its own.
    pub fn new(parts: SupervisorParts) -> Self {
        let (news, _) = broadcast::channel(NEWS);
        let (proofs, proven) = mpsc::channel(PROOFS);
        let this = Self(Arc::new(Inner {
            active: ActiveRuns::new(parts.policy.clone()),
            parts,
            runs: Mutex::default(),
            news,
            proofs,
            unclean: Unclean::default(),
            late: LateReports::default(),
            leases: Leases::default(),
            turn: tokio::sync::Mutex::default(),
            amending: tokio::sync::Mutex::default(),
            epoch: Mutex::default(),
            losses: Mutex::default(),
            anchors: Mutex::default(),
            leaving: AtomicBool::new(false),
        }));
        tokio::spawn(Self::keep_proofs(Arc::downgrade(&this.0), proven));
        this
    }

    /// Stops what a former controller left unfinished, and remembers which hosts still owe a proof. Returns how many runs.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let parts = &self.0.parts;
        self.0.unclean.load(&parts.store).await?;
        let connected = self.connected();
        let mut count = 0;
        for row in parts.store.call(|store| store.runs(u32::MAX, true)).await? {
            let id = row.id.clone();
            let events = parts.store.call(move |store| store.run_events(&id, 1)).await?;
            let resumed = Conductor::resume(&events, &connected, parts.settings, parts.clock.now());
            let Some((conductor, decision)) = resumed else {
                tracing::error!(run = %row.id, "an unfinished run has no readable beginning; its hosts end it by their leases");
                continue;
            };
            self.launch(conductor, decision);
            count += 1;
        }
        Ok(count)
    }

    pub async fn start(&self, view: PlanView, by: &str, key: Option<String>) -> Result<Accepted, ErrorBody> {
        self.start_unless(view, by, key, Box::new(|_, _| Ok(None))).await
    }

    /// Starts what nothing forbids at the moment at which it is recorded; `look` is asked then, and not before.
    pub async fn start_unless(
        &self,
        view: PlanView,
        by: &str,
        key: Option<String>,
        look: LastLook<ErrorBody>,
    ) -> Result<Accepted, ErrorBody> {
        let _turn = self.0.turn.lock().await;
        let parts = &self.0.parts;
        if let Some(asked) = key.clone()
            && let Some(run) = parts.store.call(move |store| store.run_by_key(&asked)).await.map_err(store_error)?
        {
            return Ok(Accepted { run, repeated: true });
        }
        let halt = parts.latch.get();
        if halt.engaged {
            return Err(halted(&halt));
        }
        self.0.active.check(&view.plan, Stage::Admission, &parts.voice.hosts())?;
        if self.runs().is_empty() {
            parts.clock.anchor();
        }
        let run = RunId::generate();
        let body = EventBody::RunAccepted {
            digest: view.digest,
            injections: view.plan.injections(),
            plan: Box::new(view.plan),
            idempotency_key: key,
            halt_epoch: halt.epoch,
        };
        let at = parts.clock.now();
        let accepted = NewEvent {
            at,
            by: by.to_owned(),
            source: None,
            body,
        };
        let id = run.clone();
        let recorded = parts
            .store
            .call(move |store| append_unless(store, &id, vec![accepted], at, look))
            .await;
        let events = recorded.map_err(store_error)??;
        let Some(mut conductor) = Conductor::new(&events, &self.connected(), parts.settings) else {
            return Err(ErrorBody::new("store", "the run's beginning could not be read back"));
        };
        // Nobody watching is no error.
        events.into_iter().for_each(|event| drop(self.0.news.send(event)));
        let first = conductor.step(parts.clock.now(), Input::Begin);
        let inbox = self.launch(conductor, first);
        // A halt that came between the look at the latch and the launch did not find this run.
        let halt = parts.latch.get();
        if halt.engaged {
            tell(&inbox, stop_for(&halt)).await;
        }
        Ok(Accepted { run, repeated: false })
    }

    /// Answers when the effect is gone, or when its time to go is over.
    pub async fn stop(&self, target: StopTarget, by: &str, reason: &str) -> Result<StopAnswer, ErrorBody> {
        let news = self.0.news.subscribe();
        let asked_at = self.0.parts.clock.now();
        let (run, injection) = match target {
            StopTarget::Run(run) => (run, None),
            StopTarget::Injection(id) => self.owner_of(id)?,
        };
        let Some(inbox) = self.inbox(&run) else {
            return Ok(StopAnswer {
                run,
                outcome: StopOutcome::AlreadyFinished,
                undone: 0,
            });
        };
        match &injection {
            Some(injection) => {
                let stop = self.0.parts.voice.stop(&injection.host, &injection.id, EndedBy::Stop).await;
                stop.map_err(|e| ErrorBody::new("host_lost", e.to_string()))?;
            }
            None => {
                let (reason, by) = (reason.to_owned(), by.to_owned());
                tell(
                    &inbox,
                    Input::Stop {
                        cause: StopCause::Operator,
                        reason,
                        by,
                        halt_epoch: None,
                    },
                )
                .await;
            }
        }
        let id = injection.map(|i| i.id);
        // Running out of time is an answer of its own.
        // A driver that cannot record leaves its inbox behind and stops its hosts by itself.
        tokio::select! {
            _ = tokio::time::timeout(STOP_WAIT, until_over(news, &run, id.as_ref())) => {}
            () = inbox.closed() => {}
        }
        self.stopped(run, id.as_ref(), asked_at).await
    }

    /// Asks a host for its proof now; runs that ended without one are amended.
    pub async fn verify(&self, host: &HostName) -> Result<(), ErrorBody> {
        self.prove(host).await
    }

    /// Hosts are told first; the record follows.
    pub async fn halt(&self, by: &str, reason: &str) -> HaltAnswer {
        let parts = &self.0.parts;
        let state = self.numbered(parts.latch.get().engage(by, reason, parts.clock.now()));
        let stop_runs = self.clone().stop_runs(state.clone());
        let (outcome, (), ()) = tokio::join!(parts.voice.halt(state.clone(), HALT_WAIT_MS), stop_runs, self.latch(&state));
        self.keep_halt(&state, by).await;
        answer(state, outcome)
    }

    /// Every run that is going hears of the halt.
    pub(crate) async fn stop_runs(self, state: HaltState) {
        let mut stops = JoinSet::new();
        for going in self.runs().values() {
            let (inbox, stop) = (going.inbox.clone(), stop_for(&state));
            stops.spawn(async move { tell(&inbox, stop).await });
        }
        stops.join_all().await;
    }

    /// The record first: a release that is not on record does not happen to hosts.
    pub async fn release(&self, by: &str, reason: &str) -> HaltAnswer {
        let parts = &self.0.parts;
        let state = self.numbered(parts.latch.get().release(by, reason, parts.clock.now()));
        self.keep_halt(&state, by).await;
        self.latch(&state).await;
        let outcome = parts.voice.halt(state.clone(), HALT_WAIT_MS).await;
        answer(state, outcome)
    }

    /// The controller is about to close every session by itself: what is lost from now on says nothing.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.0.leaving.load(Ordering::SeqCst)
    }

    /// The time by which runs go: their events and this are of one clock.
    pub fn now(&self) -> Timestamp {
        self.0.parts.clock.now()
    }

    pub fn halt_state(&self) -> HaltState {
        self.0.parts.latch.get()
    }

    pub fn watch(&self) -> broadcast::Receiver<Event> {
        self.0.news.subscribe()
    }

    /// Makes the summaries that are missing, and answers how many.
    pub async fn rebuild_summaries(&self) -> Result<usize, StoreError> {
        summaries::rebuild(&self.0.parts.store).await
    }

    /// A run whose kept summary is missing or old.
    pub async fn looked_through(&self, run: &RunId) -> Result<Option<RunDocument>, StoreError> {
        summaries::looked_through(&self.0.parts.store, run).await
    }

    /// Whether a run has ended without this host's proof.
    pub fn owes_proof(&self, host: &HostName) -> bool {
        self.0.unclean.owes(host)
    }

    pub fn active_runs(&self) -> u32 {
        u32::try_from(self.runs().len()).unwrap_or(u32::MAX)
    }

    /// Unfinished runs as they count against a policy.
    pub fn active(&self) -> Vec<ActiveRun> {
        self.0.active.all()
    }

    /// Every injection of every unfinished run.
    pub fn leased(&self) -> Vec<Leased> {
        self.0.leases.of(&self.runs())
    }

    pub(crate) fn runs(&self) -> MutexGuard<'_, BTreeMap<RunId, Going>> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<InjectionId>> {
        self.0.parts.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn inbox(&self, run: &RunId) -> Option<mpsc::Sender<Input>> {
        self.runs().get(run).map(|going| going.inbox.clone())
    }

    pub(crate) fn connected(&self) -> Vec<HostName> {
        let hosts = self.0.parts.voice.hosts();
        let connected = hosts.iter().filter(|h| h.connection == Connection::Connected);
        connected.map(|h| h.name.clone()).collect()
    }

    pub(crate) fn launch(&self, conductor: Conductor, first: Decision) -> mpsc::Sender<Input> {
        let parts = &self.0.parts;
        let (own, inbox) = mpsc::channel(INBOX);
        let run = conductor.run().clone();
        let going = Going {
            inbox: own.clone(),
            injections: conductor.injections().cloned().collect(),
            hosts: conductor.hosts().cloned().collect(),
        };
        self.known().extend(going.injections.iter().map(|i| i.id.clone()));
        self.0.active.insert(ActiveRun::new(run.clone(), conductor.plan()));
        self.runs().insert(run.clone(), going);
        let means = Means {
            store: parts.store.clone(),
            voice: parts.voice.clone(),
            rule: parts.rule.clone(),
            active: self.0.active.clone(),
            clock: parts.clock.clone(),
            leases: self.0.leases.clone(),
            news: self.0.news.clone(),
            proofs: self.0.proofs.clone(),
        };
        let driver = tokio::spawn(Driver::new(conductor, means, own.clone(), inbox).drive(first));
        tokio::spawn(self.clone().attend(run, driver));
        own
    }

    /// Forgets a run that is over.
    pub(crate) async fn let_go(&self, run: &RunId) {
        summaries::keep(&self.0.parts.store, run).await;
        self.0.active.remove(run);
        let Some(going) = self.runs().remove(run) else { return };
        self.0.leases.forget(&going.injections);
        let mut known = self.known();
        for injection in &going.injections {
            known.remove(&injection.id);
        }
    }

    fn owner_of(&self, id: InjectionId) -> Result<(RunId, Option<Injection>), ErrorBody> {
        let runs = self.runs();
        let mut all = runs.iter().flat_map(|(run, going)| going.injections.iter().map(move |i| (run, i)));
        let found = all.find(|(_, i)| i.id == id).map(|(run, i)| (run.clone(), Some(i.clone())));
        found.ok_or_else(|| ErrorBody::new("not_found", format!("no active injection {id}")))
    }

    /// What became of a stop, from the record.
    async fn stopped(&self, run: RunId, id: Option<&InjectionId>, asked_at: Timestamp) -> Result<StopAnswer, ErrorBody> {
        let of = run.clone();
        let events = self
            .0
            .parts
            .store
            .call(move |store| store.run_events(&of, 1))
            .await
            .map_err(store_error)?;
        let state = RunState::of(&events);
        let all = state.iter().flat_map(|state| &state.injections);
        let concerned = || all.clone().filter(|i| id.is_none_or(|id| &i.injection.id == id));
        let acts = concerned().any(InjectionStatus::is_out);
        // By when it was heard: what the host says of the time is its own.
        let since = events
            .iter()
            .filter(|event| event.at >= asked_at)
            .filter_map(|event| ends(&event.body));
        let since: BTreeSet<&InjectionId> = since.collect();
        let undone = concerned().filter(|i| i.state == InjectionState::Undone && since.contains(&i.injection.id));
        Ok(StopAnswer {
            undone: u32::try_from(undone.count()).unwrap_or(u32::MAX),
            outcome: if acts { StopOutcome::Stopping } else { StopOutcome::Stopped },
            run,
        })
    }

    /// One epoch has one meaning, also when two people halt and release at the same moment.
    fn numbered(&self, mut state: HaltState) -> HaltState {
        let mut newest = self.0.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        state.epoch = state.epoch.max(*newest + 1);
        *newest = state.epoch;
        state
    }

    async fn latch(&self, state: &HaltState) {
        let (latch, state) = (self.0.parts.latch.clone(), state.clone());
        match tokio::task::spawn_blocking(move || latch.set(state)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the halt latch holds in memory but could not be written"),
            Err(error) => tracing::error!(%error, "the halt latch was not written"),
        }
    }

    async fn keep_halt(&self, state: &HaltState, by: &str) {
        let actor = Actor {
            by: by.to_owned(),
            address: String::new(),
        };
        let latched = state.clone();
        if let Err(error) = self.0.parts.store.call(move |store| store.set_halt(&latched, &actor)).await {
            tracing::error!(%error, epoch = state.epoch, "the latch is in force but could not be stored");
        }
    }
}

/// Puts one input into a run's inbox, unless the run is over or stuck: then its leases end it.
pub(crate) async fn tell(inbox: &mpsc::Sender<Input>, input: Input) {
    let _ = inbox.send_timeout(input, INBOX_WAIT).await;
}

fn stop_for(halt: &HaltState) -> Input {
    Input::Stop {
        cause: StopCause::Halt,
        reason: halt.words(),
        by: halt.by.clone(),
        halt_epoch: Some(halt.epoch),
    }
}

fn halted(halt: &HaltState) -> ErrorBody {
    let message = format!("{}; nothing starts until it is released", halt.words());
    ErrorBody::new("halted", message)
}

fn answer(state: HaltState, outcome: HaltOutcome) -> HaltAnswer {
    HaltAnswer {
        state,
        told: outcome.told,
        answered: outcome.answered,
        undone: outcome.undone,
        took_ms: outcome.took_ms,
    }
}

pub(crate) fn store_error(error: StoreError) -> ErrorBody {
    ErrorBody::new("store", error.to_string())
}
