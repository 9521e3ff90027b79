//! A fleet that answers by script, and the bench of supervisor and store around it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use controller_conductor::{
    Accepted, BoxFuture, GatewayError, HaltOutcome, HostEvent, HostGateway, Latch, PreflightReply, RunClock, Settings, Supervisor,
    SupervisorParts,
};
use controller_policy::Policy;
use controller_report::fold;
use controller_store::{Actor, HostRecord, MemoryStore, StoreHandle};
use proto_model::catalogue::Catalogue;
use proto_model::doctor::HostDoctor;
use proto_model::document::{ErrorBody, RunDocument};
use proto_model::event::{Event, EventBody, FleetEventBody, RunPhase};
use proto_model::halt::HaltState;
use proto_model::host::{Availability, Connection, Host, Membership};
use proto_model::id::{HostName, InjectionId, PlanDigest, RunId};
use proto_model::injection::{
    AgentFact, AgentReport, Applied, CleanProof, Cleanliness, EffectState, EndedBy, Ending, Injection, Observation, Observed,
    PreflightAnswer, UndoAnswer, Undone, Wish,
};
use proto_model::plan::{Plan, PlanView};
use proto_model::probe::ProbeSpec;
use proto_model::time::Timestamp;
use proto_probes::AddressRule;
use tokio::sync::{broadcast, mpsc};

use crate::plans::host;
use crate::records::record;

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

thread_local! {
    /// Of one test: each runs on a thread of its own, beside others in the same process.
    static STEPPED_MS: Cell<i64> = const { Cell::new(0) };
}

/// The wall clock, as it is set.
fn stepped() -> Timestamp {
    Timestamp(now().0 + STEPPED_MS.get())
}

pub fn step_the_wall_clock(ms: i64) {
    STEPPED_MS.set(STEPPED_MS.get() + ms);
}

struct Held {
    run: RunId,
    host: HostName,
    facts: u64,
    over: bool,
}

/// Hosts that do as told, at once.
pub struct Scripted {
    names: Vec<HostName>,
    said: mpsc::Sender<HostEvent>,
    held: Mutex<BTreeMap<InjectionId, Held>>,
    pub away: Mutex<BTreeSet<HostName>>,
    /// Of hosts that are not as usual.
    pub availability: Mutex<BTreeMap<HostName, Availability>>,
    pub membership: Mutex<BTreeMap<HostName, Membership>>,
    pub settled: Mutex<BTreeSet<InjectionId>>,
    pub stopped: Mutex<Vec<InjectionId>>,
    pub halts: Mutex<Vec<HaltState>>,
    pub latch: Arc<MemoryLatch>,
    pub refreshed: Mutex<Vec<HostRecord>>,
    store: StoreHandle,
    /// What was told as stored, and the orders among it.
    news: Mutex<Option<broadcast::Receiver<Event>>>,
    recorded: Mutex<BTreeSet<InjectionId>>,
    /// An order came that was not on record.
    pub unrecorded: AtomicBool,
    /// The next renewal breaks the driver that asks for it.
    pub breaks: AtomicBool,
}

impl Scripted {
    fn is_away(&self, host: &HostName) -> bool {
        self.away.lock().unwrap().contains(host)
    }

    /// Whether the order was told as stored before it came here.
    fn is_recorded(&self, id: &InjectionId) -> bool {
        let (mut news, mut recorded) = (self.news.lock().unwrap(), self.recorded.lock().unwrap());
        while let Some(Ok(event)) = news.as_mut().map(broadcast::Receiver::try_recv) {
            if let EventBody::InjectionOrdered { id, .. } = event.body {
                recorded.insert(id);
            }
        }
        recorded.contains(id)
    }

    async fn tell(&self, id: &InjectionId, fact: AgentFact) {
        let (host, report) = {
            let mut held = self.held.lock().unwrap();
            let held = held.get_mut(id).unwrap();
            held.facts += 1;
            held.over |= fact.is_terminal();
            let report = AgentReport {
                injection: id.clone(),
                run: held.run.to_string(),
                agent_seq: held.facts,
                boot_id: "b".into(),
                boot_ms: now().0.cast_unsigned(),
                fact,
            };
            (held.host.clone(), report)
        };
        self.said.send(HostEvent::Report { host, report }).await.unwrap();
    }

    pub async fn end(&self, id: &InjectionId, ended_by: EndedBy) {
        let over = self.held.lock().unwrap().get(id).is_none_or(|held| held.over);
        if over {
            return;
        }
        self.tell(id, AgentFact::Ending(Ending { ended_by, reason: None })).await;
        let undone = Undone {
            ended_by,
            undone_by: "agent".into(),
            undo_ms: 3,
            answer: UndoAnswer::UndoneNow,
            drift: vec![],
        };
        self.tell(id, AgentFact::Undone(undone)).await;
    }

    pub async fn say(&self, said: HostEvent) {
        self.said.send(said).await.unwrap();
    }

    /// An injection that the host holds and nobody here ordered.
    pub fn hold(&self, id: &InjectionId, run: &RunId, name: &str) {
        let held = Held {
            run: run.clone(),
            host: host(name),
            facts: 0,
            over: false,
        };
        self.held.lock().unwrap().insert(id.clone(), held);
    }

    /// Its end is never reported.
    pub fn mute(&self, id: &InjectionId) {
        self.held.lock().unwrap().get_mut(id).unwrap().over = true;
    }

    fn known(&self, name: &HostName) -> Host {
        let held = self.held.lock().unwrap();
        Host {
            name: name.clone(),
            labels: BTreeMap::new(),
            facts: Default::default(),
            connection: if self.is_away(name) {
                Connection::Lost
            } else {
                Connection::Connected
            },
            cleanliness: Cleanliness::Clean,
            availability: self.availability.lock().unwrap().get(name).copied().unwrap_or(Availability::Open),
            membership: self.membership.lock().unwrap().get(name).copied().unwrap_or(Membership::Enrolled),
            note: None,
            catalogue_digest: "c".into(),
            active_injections: u32::try_from(held.values().filter(|h| &h.host == name && !h.over).count()).unwrap(),
            enrolled_at: Timestamp(0),
            last_seen: None,
            certificate_not_after: None,
            source_address: None,
            clock_offset_ms: None,
            authority: Default::default(),
        }
    }

    /// Told again by its host, as after a lost settlement.
    pub async fn repeat_end(&self, id: &InjectionId) {
        self.held.lock().unwrap().get_mut(id).unwrap().over = false;
        self.end(id, EndedBy::LeaseLost).await;
    }
}

impl HostGateway for Scripted {
    fn hosts(&self) -> Vec<Arc<Host>> {
        self.names.iter().map(|name| Arc::new(self.known(name))).collect()
    }

    fn host(&self, name: &HostName) -> Option<Arc<Host>> {
        self.names.contains(name).then(|| Arc::new(self.known(name)))
    }

    fn catalogue(&self, _: &HostName) -> Option<Arc<Catalogue>> {
        None
    }

    fn boot_id(&self, _: &HostName) -> Option<String> {
        Some("b".into())
    }

    fn preflight<'a>(&'a self, host: &'a HostName, wishes: Vec<Wish>) -> BoxFuture<'a, Result<PreflightReply, GatewayError>> {
        Box::pin(async move {
            if self.is_away(host) {
                return Err(GatewayError::Lost(host.clone()));
            }
            let answer = PreflightAnswer {
                accepted: true,
                refusals: vec![],
                warnings: vec![],
                undo: vec![],
                touches: vec![],
                engine: None,
            };
            Ok(PreflightReply {
                answers: vec![answer; wishes.len()],
                boot_id: "b".into(),
                agent_version: "0".into(),
                kernel: "6".into(),
                catalogue_digest: "c".into(),
            })
        })
    }

    fn start<'a>(
        &'a self,
        host: &'a HostName,
        run: &'a RunId,
        injection: &'a Injection,
        _: &'a PlanDigest,
        _: u64,
    ) -> BoxFuture<'a, Result<(), GatewayError>> {
        Box::pin(async move {
            let recorded = self.is_recorded(&injection.id);
            self.unrecorded.fetch_or(!recorded, Ordering::SeqCst);
            let held = Held {
                run: run.clone(),
                host: host.clone(),
                facts: 0,
                over: false,
            };
            self.held.lock().unwrap().insert(injection.id.clone(), held);
            let applied = Applied {
                effect: serde_json::Value::Null,
                engine: None,
                apply_ms: 1,
                deadline_boot_ms: 1,
                noop: false,
            };
            self.tell(&injection.id, AgentFact::Applied(applied)).await;
            let observation = Observation {
                asked: None,
                measured: None,
                unit: "percent".into(),
                state: EffectState::Confirmed,
                note: None,
            };
            self.tell(
                &injection.id,
                AgentFact::Observed(Observed {
                    window: 1,
                    window_ms: 5_000,
                    observation,
                }),
            )
            .await;
            tokio::time::sleep(Duration::from_millis(injection.wish.duration_ms)).await;
            self.end(&injection.id, EndedBy::DurationElapsed).await;
            Ok(())
        })
    }

    fn stop<'a>(&'a self, host: &'a HostName, injection: &'a InjectionId, cause: EndedBy) -> BoxFuture<'a, Result<(), GatewayError>> {
        Box::pin(async move {
            if self.is_away(host) {
                return Err(GatewayError::Lost(host.clone()));
            }
            self.stopped.lock().unwrap().push(injection.clone());
            self.end(injection, cause).await;
            Ok(())
        })
    }

    fn renew(&self, _: &HostName, _: &[InjectionId], _: u64) {
        assert!(!self.breaks.swap(false, Ordering::SeqCst), "told to break whoever renews");
    }

    fn doctor<'a>(&'a self, host: &'a HostName) -> BoxFuture<'a, Result<HostDoctor, GatewayError>> {
        Box::pin(async move { Ok(HostDoctor::unasked(host.as_str(), "a paper host has no abilities")) })
    }

    fn verify<'a>(&'a self, host: &'a HostName, _: Vec<InjectionId>) -> BoxFuture<'a, Result<CleanProof, GatewayError>> {
        Box::pin(async move {
            if self.is_away(host) {
                return Err(GatewayError::Lost(host.clone()));
            }
            let acts = self
                .held
                .lock()
                .unwrap()
                .iter()
                .filter(|(_, h)| &h.host == host && !h.over)
                .map(|(id, _)| id.to_string())
                .collect();
            Ok(CleanProof::of(acts, vec![], vec![], vec![], "b"))
        })
    }

    fn settle(&self, _: &HostName, injections: &[InjectionId]) {
        self.settled.lock().unwrap().extend(injections.iter().cloned());
    }

    fn probe_start(&self, _: &HostName, _: &RunId, _: &ProbeSpec) -> Result<(), GatewayError> {
        Ok(())
    }

    fn probe_stop(&self, _: &HostName, _: &RunId) {}

    fn accept<'a>(&'a self, _: &'a HostName, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<(), GatewayError>> {
        Box::pin(async { Ok(()) })
    }

    fn refresh<'a>(&'a self, host: &'a HostName) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let host = host.clone();
            let record = self.store.call(move |store| store.host(&host)).await.unwrap().unwrap();
            self.refreshed.lock().unwrap().push(record);
        })
    }

    fn halt<'a>(&'a self, state: HaltState, _: u64) -> BoxFuture<'a, HaltOutcome> {
        Box::pin(async move {
            self.halts.lock().unwrap().push(state);
            HaltOutcome {
                told: self.names.clone(),
                answered: self.names.clone(),
                undone: 0,
                took_ms: 1,
            }
        })
    }
}

/// One store and one fleet; supervisors come and go over them, as controllers do.
pub struct Bench {
    pub store: StoreHandle,
    pub fleet: Arc<Scripted>,
    pub supervisor: Supervisor,
    policy: Policy,
}

const HOSTS: usize = 110;

impl Bench {
    pub async fn new() -> Self {
        Self::ruled_by("").await
    }

    pub async fn ruled_by(policy: &str) -> Self {
        let store = StoreHandle::spawn(Box::new(MemoryStore::default()));
        let mut names = vec![host("web"), host("cache")];
        names.extend((0..HOSTS).map(|i| host(&format!("h{i}"))));
        for name in names.iter().take(2) {
            let actor = Actor {
                by: "test".into(),
                address: String::new(),
            };
            let event = FleetEventBody::HostEnrolled {
                host: name.clone(),
                token: "t".into(),
            };
            let record = record(name);
            store
                .call(move |store| store.put_host(&record, event, &actor, now()))
                .await
                .unwrap();
        }
        let policy = Policy::from_toml(policy).unwrap();
        let (fleet, supervisor) = controller(&store, &names, &policy).await;
        Self {
            store,
            fleet,
            supervisor,
            policy,
        }
    }

    /// Another controller process over the same store; the old one is not heard any more.
    pub async fn restarted(self) -> Self {
        let (names, policy) = (self.fleet.names.clone(), self.policy.clone());
        let (fleet, supervisor) = controller(&self.store, &names, &policy).await;
        Self { fleet, supervisor, ..self }
    }

    pub async fn start(&self, plan: Plan) -> Result<Accepted, ErrorBody> {
        self.supervisor.start(view(plan), "ann", None).await
    }

    pub async fn document(&self, run: &RunId) -> RunDocument {
        let run = run.clone();
        fold(&self.store.call(move |store| store.run_events(&run, 1)).await.unwrap()).unwrap()
    }

    pub async fn finished(&self, run: &RunId) -> RunDocument {
        self.when(run, |d| d.state == RunPhase::Finished).await
    }

    /// Waits for a condition on the run; it must come within ten seconds.
    pub async fn when(&self, run: &RunId, wanted: fn(&RunDocument) -> bool) -> RunDocument {
        for _ in 0..500 {
            let document = self.document(run).await;
            if wanted(&document) {
                return document;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("waited in vain: {:#?}", self.document(run).await);
    }

    /// Waits until the first injection of the run acts.
    pub async fn acting(&self, run: &RunId) -> InjectionId {
        let document = self.when(run, |d| d.injections.iter().all(|i| i.applied_at.is_some())).await;
        document.injections[0].id.clone()
    }
}

async fn controller(store: &StoreHandle, names: &[HostName], policy: &Policy) -> (Arc<Scripted>, Supervisor) {
    let (said, hears) = mpsc::channel(256);
    let latch = Arc::new(MemoryLatch(Mutex::new(store.call(|store| store.halt()).await.unwrap())));
    let fleet = Arc::new(Scripted {
        names: names.to_vec(),
        latch: latch.clone(),
        said,
        held: Mutex::default(),
        away: Mutex::default(),
        availability: Mutex::default(),
        membership: Mutex::default(),
        settled: Mutex::default(),
        stopped: Mutex::default(),
        halts: Mutex::default(),
        refreshed: Mutex::default(),
        store: store.clone(),
        news: Mutex::default(),
        recorded: Mutex::default(),
        unrecorded: AtomicBool::new(false),
        breaks: AtomicBool::new(false),
    });
    let settings = Settings {
        verify_within_ms: 1_000,
        ask_again_ms: 100,
        lost_grace_ms: 300,
        ..Settings::with_lease(600)
    };
    let supervisor = Supervisor::new(SupervisorParts {
        store: store.clone(),
        voice: fleet.clone(),
        latch,
        known: Arc::default(),
        policy: policy.clone(),
        rule: AddressRule::default(),
        settings,
        clock: RunClock::new(stepped),
    });
    *fleet.news.lock().unwrap() = Some(supervisor.watch());
    supervisor.recover().await.unwrap();
    let routing = supervisor.clone();
    tokio::spawn(async move { routing.route(hears).await });
    (fleet, supervisor)
}

/// A latch in memory, which a new supervisor reads from the store.
pub struct MemoryLatch(Mutex<HaltState>);

impl Latch for MemoryLatch {
    fn get(&self) -> HaltState {
        self.0.lock().unwrap().clone()
    }

    fn set(&self, state: HaltState) -> std::io::Result<()> {
        let mut held = self.0.lock().unwrap();
        *held = held.clone().newest(state);
        Ok(())
    }
}

pub fn view(plan: Plan) -> PlanView {
    PlanView {
        digest: plan.digest(),
        created_at: now(),
        expires_at: now().plus_ms(60_000),
        plan,
        answers: vec![],
        accepted: true,
    }
}
