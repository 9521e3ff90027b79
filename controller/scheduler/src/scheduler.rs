//! The thin driver: each beat it makes what is due durable, then carries it out. It decides by `decide` alone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use controller_store::{LastLook, ScheduleRecord, StoreError, StoreHandle, TickRecord};
use proto_model::document::ErrorBody;
use proto_model::id::RunId;
use proto_model::schedule::{MissedRule, SkipReason, TickState};
use proto_model::time::Timestamp;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::cadence::Cadence;
use crate::decide::{Moment, consider, obstacle, refusal, skip_reason, too_late};
use crate::starter::Starter;

/// How often the time is looked at.
const BEAT: Duration = Duration::from_secs(1);
/// Ticks that are planned and started at the same time; the others wait for the next beat.
const STARTS: usize = 16;
/// How long one tick may take to be planned, with every host asked.
const PLAN_WITHIN: Duration = Duration::from_secs(80);
/// Unfinished runs that are looked through: more than the controller takes on.
const UNFINISHED: u32 = 1_000;

/// Shared by the driver and whoever carries out a tick that a person asked for.
#[derive(Clone)]
pub struct Scheduler(Arc<Inner>);

struct Inner {
    store: StoreHandle,
    now: fn() -> Timestamp,
    /// Keys of ticks that are being carried out: each by one only.
    carried: Mutex<BTreeSet<String>>,
    /// Schedules that cannot be understood any more, each said once.
    told: Mutex<BTreeSet<String>>,
}

impl Scheduler {
    pub fn new(store: StoreHandle, now: fn() -> Timestamp) -> Self {
        Self(Arc::new(Inner {
            store,
            now,
            carried: Mutex::default(),
            told: Mutex::default(),
        }))
    }

    /// Until the program ends.
    pub async fn run(self, starter: Arc<dyn Starter>) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut starts = JoinSet::new();
        loop {
            beat.tick().await;
            while starts.try_join_next().is_some() {}
            if let Err(error) = self.beat(&starter, &mut starts).await {
                tracing::error!(%error, "schedules could not be looked at; it is tried again");
            }
        }
    }

    /// One look: what is due is recorded, and what is recorded is started. Public for tests, which hold the time.
    pub async fn beat(&self, starter: &Arc<dyn Starter>, starts: &mut JoinSet<()>) -> Result<(), StoreError> {
        self.decide().await?;
        for tick in self.0.store.call(|store| store.due_ticks()).await? {
            if starts.len() >= STARTS {
                return Ok(());
            }
            if self.carried().contains(&tick.key()) {
                continue;
            }
            let (this, starter) = (self.clone(), starter.clone());
            starts.spawn(async move {
                if let Err(error) = this.carry_out(starter.as_ref(), tick).await {
                    tracing::error!(%error, "a due tick could not be carried out; it is tried again");
                }
            });
        }
        Ok(())
    }

    /// Records what became due since the last look.
    async fn decide(&self) -> Result<(), StoreError> {
        for schedule in self.0.store.call(|store| store.schedules()).await? {
            let Some(cadence) = self.understood(&schedule) else { continue };
            let Some(step) = consider(&schedule, &cadence, (self.0.now)()) else {
                continue;
            };
            for tick in &step.ticks {
                tracing::info!(schedule = schedule.name, planned_at = %tick.planned_at, state = tick.state.as_str(), "a planned time has come");
            }
            let id = schedule.id.clone();
            self.0
                .store
                .call(move |store| store.record_ticks(&id, step.from, step.until, &step.ticks))
                .await?;
        }
        Ok(())
    }

    fn understood(&self, schedule: &ScheduleRecord) -> Option<Cadence> {
        match Cadence::parse(&schedule.cron, &schedule.timezone, schedule.window.as_deref()) {
            Ok(cadence) => Some(cadence),
            Err(problems) => {
                let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
                if told.insert(schedule.id.to_string()) {
                    tracing::error!(schedule = schedule.name, %problems, "the schedule cannot be understood any more and never starts");
                }
                None
            }
        }
    }

    /// Brings a due tick, which is on record, to its end, and returns it; at once when somebody else is doing so.
    pub async fn carry_out(&self, starter: &dyn Starter, tick: TickRecord) -> Result<TickRecord, StoreError> {
        let key = tick.key();
        if !self.carried().insert(key.clone()) {
            return Ok(tick);
        }
        // Given back however this ends.
        let _turn = Turn { inner: &self.0, key };
        let key = tick.key();
        let outcome = match self.0.store.call(move |store| store.run_by_key(&key)).await? {
            Some(run) => Outcome::Started(run),
            None => self.outcome(starter, &tick).await?,
        };
        let settled = outcome.of(tick, (self.0.now)());
        let end = settled.clone();
        self.0.store.call(move |store| store.settle_tick(&end)).await?;
        tracing::info!(schedule = settled.name, planned_at = %settled.planned_at, state = settled.state.as_str(),
            reason = settled.reason.map(SkipReason::as_str), message = settled.message, run = settled.run.as_ref().map(|run| run.as_str()),
            "a tick is decided");
        Ok(settled)
    }

    async fn outcome(&self, starter: &dyn Starter, tick: &TickRecord) -> Result<Outcome, StoreError> {
        let skipped = |reason: SkipReason, message: String| Ok(Outcome::Skipped(reason, message));
        let schedules = self.0.store.call(|store| store.schedules()).await?;
        let Some(schedule) = schedules.into_iter().find(|s| s.id == tick.schedule) else {
            return skipped(SkipReason::Refused, removed().message);
        };
        let Some(cadence) = self.understood(&schedule) else {
            return skipped(SkipReason::Refused, "the schedule cannot be understood any more".into());
        };
        let now = (self.0.now)();
        let rule = if tick.manual { MissedRule::Skip } else { schedule.missed };
        if too_late(tick, rule, now) {
            return Ok(Outcome::Missed);
        }
        let freezes = self.0.store.call(|store| store.freezes()).await?;
        let moment = Moment {
            now,
            environment: schedule.environment.as_deref(),
            freezes: &freezes,
            halted: starter.halted(),
            previous: self.unfinished(&schedule).await?,
        };
        if let Some((reason, message)) = obstacle(tick, &schedule, &cadence, &moment) {
            return skipped(reason, message);
        }
        match self.started(starter, &schedule, tick, cadence).await {
            Ok(run) => Ok(Outcome::Started(run)),
            Err(refusal) => skipped(skip_reason(&refusal), in_full(&refusal)),
        }
    }

    /// Planning has its time; a start that has begun is waited for, so that its run is never lost sight of.
    async fn started(
        &self,
        starter: &dyn Starter,
        schedule: &ScheduleRecord,
        tick: &TickRecord,
        cadence: Cadence,
    ) -> Result<RunId, ErrorBody> {
        let planned = tokio::time::timeout(PLAN_WITHIN, starter.plan(schedule)).await;
        let late = |_| ErrorBody::new("refused", format!("it was not planned within {} s", PLAN_WITHIN.as_secs()));
        let view = planned.map_err(late)??;
        let look = last_look(tick.clone(), cadence, view.plan.environment.clone());
        starter.start(view, &tick.by, tick.key(), look).await
    }

    /// The run of the schedule's last started tick, while it goes on.
    async fn unfinished(&self, schedule: &ScheduleRecord) -> Result<Option<String>, StoreError> {
        let id = schedule.id.clone();
        let Some(run) = self
            .0
            .store
            .call(move |store| store.last_started(&id))
            .await?
            .and_then(|tick| tick.run)
        else {
            return Ok(None);
        };
        let going = self.0.store.call(|store| store.runs(UNFINISHED, true)).await?;
        Ok(going.iter().any(|row| row.id == run).then(|| run.to_string()))
    }

    fn carried(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was set while the experiment was planned holds as well: everything in the store that forbids the start is read again as
/// the run is recorded. The halt and the hosts are asked again by whoever starts runs.
fn last_look(tick: TickRecord, cadence: Cadence, environment: String) -> LastLook<ErrorBody> {
    Box::new(move |store, now| {
        let schedules = store.schedules()?;
        let Some(schedule) = schedules.iter().find(|s| s.id == tick.schedule) else {
            return Ok(Some(removed()));
        };
        let freezes = store.freezes()?;
        let moment = Moment {
            now,
            environment: Some(&environment),
            freezes: &freezes,
            halted: None,
            previous: None,
        };
        Ok(obstacle(&tick, schedule, &cadence, &moment).map(refusal))
    })
}

fn removed() -> ErrorBody {
    ErrorBody::new("refused", "the schedule was removed")
}

struct Turn<'a> {
    inner: &'a Inner,
    key: String,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.inner.carried.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

enum Outcome {
    Started(RunId),
    Skipped(SkipReason, String),
    Missed,
}

impl Outcome {
    fn of(self, tick: TickRecord, now: Timestamp) -> TickRecord {
        let (state, reason, message, run) = match self {
            Self::Started(run) => (TickState::Started, None, None, Some(run)),
            Self::Skipped(reason, message) => (TickState::Skipped, Some(reason), Some(message), None),
            Self::Missed => (TickState::Missed, None, None, None),
        };
        TickRecord {
            state,
            reason,
            message,
            run,
            decided_at: now,
            ..tick
        }
    }
}

/// A refusal with every host's own word.
fn in_full(refusal: &ErrorBody) -> String {
    let hosts = refusal.hosts.iter().map(|host| format!("{}: {}", host.name, host.message));
    std::iter::once(refusal.message.clone()).chain(hosts).collect::<Vec<_>>().join("; ")
}
