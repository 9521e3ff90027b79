//! A clock, a store and a starter of the tests' own; nothing here is a schedule's business.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use controller_scheduler::{Answer, Scheduler, Starter};
use controller_store::{Actor, FreezeRecord, LastLook, ScheduleRecord, SqliteStore, StoreHandle, TickRecord};
use proto_model::document::ErrorBody;
use proto_model::event::{EventBody, NewEvent};
use proto_model::id::{RunId, ScheduleId};
use proto_model::plan::{Limits, Origin, Plan, PlanView};
use proto_model::schedule::{MissedRule, TickState};
use proto_model::time::Timestamp;
use proto_model::verdict::{Cleanup, RunEndedBy, Verdict};
use tokio::task::JoinSet;

thread_local! {
    /// Each test has a thread, and each thread a clock.
    static NOW: AtomicI64 = const { AtomicI64::new(0) };
}

pub fn now() -> Timestamp {
    Timestamp(NOW.with(|now| now.load(Ordering::Relaxed)))
}

pub fn set(text: &str) -> Timestamp {
    let at = at(text);
    NOW.with(|now| now.store(at.0, Ordering::Relaxed));
    at
}

pub fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

pub fn actor() -> Actor {
    Actor {
        by: "root@local".into(),
        address: "local".into(),
    }
}

pub fn hourly(missed: MissedRule) -> ScheduleRecord {
    ScheduleRecord {
        id: ScheduleId::generate(),
        name: "hourly".into(),
        file_text: String::new(),
        file_name: "x.yaml".into(),
        set: BTreeMap::new(),
        experiment: "checkout".into(),
        service: Some("shop".into()),
        environment: Some("staging".into()),
        cron: "0 * * * *".into(),
        timezone: "UTC".into(),
        window: None,
        missed,
        confirm: String::new(),
        paused: false,
        created_at: now(),
        created_by: "root@local".into(),
        considered_until: now(),
    }
}

/// A tick of this moment.
pub fn due(schedule: &ScheduleRecord, manual: bool) -> TickRecord {
    TickRecord {
        schedule: schedule.id.clone(),
        name: schedule.name.clone(),
        planned_at: now(),
        count: 1,
        manual,
        by: "root@local".into(),
        state: TickState::Due,
        reason: None,
        message: None,
        run: None,
        decided_at: now(),
    }
}

/// What the starter does when it is asked.
#[derive(Clone, Default)]
pub enum Will {
    #[default]
    Start,
    /// Accepts the run and dies before it can say so.
    StartAndDie,
    /// Dies before the run is accepted.
    Die,
    Refuse(ErrorBody),
}

/// What somebody does while the experiment is being planned.
pub enum Meanwhile {
    Freeze(FreezeRecord),
    Pause(ScheduleId),
    Remove(ScheduleId),
    /// Planning takes until then.
    Until(&'static str),
}

pub struct Fake {
    pub store: StoreHandle,
    pub will: Mutex<Will>,
    pub meanwhile: Mutex<Option<Meanwhile>>,
    pub halted: Mutex<Option<String>>,
    pub planned: Mutex<u32>,
}

impl Starter for Fake {
    fn halted(&self) -> Option<String> {
        self.halted.lock().unwrap().clone()
    }

    fn plan<'a>(&'a self, _: &'a ScheduleRecord) -> Answer<'a, PlanView> {
        *self.planned.lock().unwrap() += 1;
        let will = self.will.lock().unwrap().clone();
        let meanwhile = self.meanwhile.lock().unwrap().take();
        Box::pin(async move {
            if let Some(meanwhile) = meanwhile {
                self.while_it_is_planned(meanwhile).await;
            }
            match will {
                Will::Refuse(error) => Err(error),
                _ => Ok(view()),
            }
        })
    }

    fn start<'a>(&'a self, view: PlanView, by: &'a str, key: String, look: LastLook<ErrorBody>) -> Answer<'a, RunId> {
        let will = self.will.lock().unwrap().clone();
        Box::pin(async move {
            if matches!(will, Will::Die) {
                return std::future::pending().await;
            }
            let run = RunId::generate();
            let accepted = EventBody::RunAccepted {
                digest: view.digest,
                plan: Box::new(view.plan),
                injections: Vec::new(),
                idempotency_key: Some(key),
                halt_epoch: 0,
            };
            let (id, event, at) = (run.clone(), event(by, accepted), now());
            let recorded = self
                .store
                .call(move |store| controller_store::append_unless(store, &id, vec![event], at, look))
                .await;
            recorded.unwrap()?;
            match will {
                Will::StartAndDie => std::future::pending().await,
                _ => Ok(run),
            }
        })
    }
}

impl Fake {
    async fn while_it_is_planned(&self, meanwhile: Meanwhile) {
        // The clock is this thread's, and not the store's.
        let at = now();
        match meanwhile {
            Meanwhile::Freeze(freeze) => self
                .store
                .call(move |store| store.change_freezes(&[freeze], &[], &actor(), at))
                .await
                .unwrap(),
            Meanwhile::Pause(id) => drop(
                self.store
                    .call(move |store| store.pause_schedule(&id, true, &actor(), at))
                    .await
                    .unwrap(),
            ),
            Meanwhile::Remove(id) => drop(
                self.store
                    .call(move |store| store.remove_schedule(&id, &actor(), at))
                    .await
                    .unwrap(),
            ),
            Meanwhile::Until(time) => drop(set(time)),
        }
    }
}

fn event(by: &str, body: EventBody) -> NewEvent {
    NewEvent {
        at: now(),
        by: by.into(),
        source: None,
        body,
    }
}

fn view() -> PlanView {
    let plan = Plan {
        name: "checkout".into(),
        origin: Origin::Schedule,
        service: None,
        environment: "staging".into(),
        hypothesis: None,
        guards: Vec::new(),
        limits: Limits::default(),
        steps: Vec::new(),
        hosts: Vec::new(),
        seed: 7,
        notes: Vec::new(),
        source: String::new(),
        variables: Default::default(),
        production: false,
    };
    PlanView {
        digest: plan.digest(),
        created_at: Timestamp(0),
        expires_at: Timestamp(0),
        plan,
        answers: Vec::new(),
        accepted: true,
    }
}

/// A controller's memory and its scheduler; made again on the same folder it is the controller after a crash.
pub struct World {
    pub store: StoreHandle,
    pub fake: Arc<Fake>,
    pub scheduler: Scheduler,
    pub starts: JoinSet<()>,
}

impl World {
    pub fn open(folder: &Path) -> Self {
        let store = open(&folder.join("store.db"));
        let fake = Arc::new(Fake {
            store: store.clone(),
            will: Mutex::default(),
            meanwhile: Mutex::default(),
            halted: Mutex::default(),
            planned: Mutex::default(),
        });
        Self {
            scheduler: Scheduler::new(store.clone(), now),
            fake,
            store,
            starts: JoinSet::new(),
        }
    }

    /// One beat, and until what it began is over.
    pub async fn beat(&mut self) {
        let starter: Arc<dyn Starter> = self.fake.clone();
        self.scheduler.beat(&starter, &mut self.starts).await.unwrap();
        while self.starts.join_next().await.is_some() {}
    }

    /// One beat that ends in the middle, as a crash ends it, once this is true of the store.
    pub async fn beat_and_die(mut self, until: impl AsyncFn(&StoreHandle) -> bool) {
        let starter: Arc<dyn Starter> = self.fake.clone();
        self.scheduler.beat(&starter, &mut self.starts).await.unwrap();
        let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while !until(&self.store).await {
            assert!(tokio::time::Instant::now() < limit, "the beat did not come so far");
            tokio::task::yield_now().await;
        }
        self.starts.shutdown().await;
    }

    pub async fn ticks(&self, schedule: &ScheduleRecord) -> Vec<TickRecord> {
        let id = schedule.id.clone();
        self.store.call(move |store| store.ticks(&id, 100)).await.unwrap()
    }

    /// Such as `started skipped:freeze missed*3`, the oldest first.
    pub async fn words(&self, schedule: &ScheduleRecord) -> String {
        let word = |tick: &TickRecord| {
            let reason = tick.reason.map(|r| format!(":{}", r.as_str())).unwrap_or_default();
            let count = if tick.count > 1 {
                format!("*{}", tick.count)
            } else {
                String::new()
            };
            format!("{}{reason}{count}", tick.state.as_str())
        };
        let ticks = self.ticks(schedule).await;
        ticks.iter().rev().map(word).collect::<Vec<_>>().join(" ")
    }

    pub async fn finish_all(&self) {
        for row in self.store.call(|store| store.runs(100, true)).await.unwrap() {
            let judged = EventBody::RunJudged {
                verdict: Verdict::Passed,
                cleanup: Cleanup::Proven,
                exit_code: 0,
                ended_by: RunEndedBy::Completed,
                reasons: Vec::new(),
                detection_ms: None,
                recovery_ms: None,
                judge_version: 1,
            };
            let id = row.id.clone();
            self.store
                .call(move |store| store.append(&id, vec![event("controller", judged)]))
                .await
                .unwrap();
        }
    }

    pub async fn runs(&self) -> usize {
        self.store.call(|store| store.runs(100, false)).await.unwrap().len()
    }
}

/// The thread of a store that was let go may still hold its file for a moment.
fn open(path: &Path) -> StoreHandle {
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match SqliteStore::open(path) {
            Ok(store) => return StoreHandle::spawn(Box::new(store)),
            Err(error) => assert!(std::time::Instant::now() < limit, "{error}"),
        }
        std::thread::yield_now();
    }
}
