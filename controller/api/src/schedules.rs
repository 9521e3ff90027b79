//! Schedules as operators see them: added, listed with what is next and what is overdue, paused, removed, and asked for now.

use std::collections::BTreeSet;

use controller_scheduler::{Cadence, by};
use controller_store::{DecidedTest, ScheduleRecord, TickRecord};
use proto_model::id::ScheduleId;
use proto_model::problem::{Problem, Problems};
use proto_model::schedule::{DueDocument, MissedRule, ScheduleDocument, Standing, TickDocument, TickState};
use proto_model::selector;
use proto_wire::v1::schedules_server::Schedules;
use proto_wire::v1::{Document, Documents, DueRequest, ScheduleAddRequest, ScheduleRef, SchedulesListRequest};
use tonic::{Request, Response, Status, async_trait};

use crate::caller::Caller;
use crate::error::{ApiError, ApiResult, not_found};
use crate::service::{Api, caller, document};
use crate::unattended::scheduled;

const MAX_SCHEDULES: usize = 1_000;
/// Planned times shown.
const NEXT: usize = 5;
/// Ticks shown of one schedule.
const TICKS: u32 = 50;
const DEFAULT_ZONE: &str = "UTC";

/// A service, and an experiment by name.
type Test = (Option<String>, String);

#[async_trait]
impl Schedules for Api {
    async fn add(&self, request: Request<ScheduleAddRequest>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let (schedule, notes) = self.wished(request.into_inner(), &caller).await?;
        self.audit(&caller, "Schedules/Add", &schedule.name).await?;
        let added = schedule.clone();
        let actor = caller.actor();
        self.0
            .store
            .call(move |store| store.add_schedule(&added, &actor))
            .await
            .map_err(ApiError::from)?;
        let mut shown = self.schedule_shown(&schedule, &self.decided().await?).await?;
        shown.notes = notes;
        answer("Schedule", &shown)
    }

    async fn list(&self, _request: Request<SchedulesListRequest>) -> Result<Response<Documents>, Status> {
        let decided = self.decided().await?;
        let mut items = Vec::new();
        for schedule in self.0.store.call(|store| store.schedules()).await.map_err(ApiError::from)? {
            items.push(document("Schedule", &self.schedule_shown(&schedule, &decided).await?)?);
        }
        Ok(Response::new(Documents { items }))
    }

    async fn show(&self, request: Request<ScheduleRef>) -> Result<Response<Document>, Status> {
        let schedule = self.schedule(&request.into_inner().name).await?;
        let mut shown = self.schedule_shown(&schedule, &self.decided().await?).await?;
        let id = schedule.id.clone();
        let ticks = self
            .0
            .store
            .call(move |store| store.ticks(&id, TICKS))
            .await
            .map_err(ApiError::from)?;
        shown.ticks = ticks.iter().map(tick_document).collect();
        answer("Schedule", &shown)
    }

    async fn pause(&self, request: Request<ScheduleRef>) -> Result<Response<Document>, Status> {
        self.set_paused(request, true).await
    }

    async fn resume(&self, request: Request<ScheduleRef>) -> Result<Response<Document>, Status> {
        self.set_paused(request, false).await
    }

    async fn remove(&self, request: Request<ScheduleRef>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let schedule = self.schedule(&request.into_inner().name).await?;
        let shown = self.schedule_shown(&schedule, &self.decided().await?).await?;
        self.audit(&caller, "Schedules/Remove", &schedule.name).await?;
        let id = schedule.id.clone();
        let (actor, now) = (caller.actor(), self.now());
        let removed = self.0.store.call(move |store| store.remove_schedule(&id, &actor, now)).await;
        removed.map_err(ApiError::from)?;
        answer("Schedule", &shown)
    }

    async fn run_now(&self, request: Request<ScheduleRef>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let schedule = self.schedule(&request.into_inner().name).await?;
        self.audit(&caller, "Schedules/RunNow", &schedule.name).await?;
        let tick = asked(&schedule, &caller, self.now());
        let added = tick.clone();
        self.0
            .store
            .call(move |store| store.add_tick(&added))
            .await
            .map_err(ApiError::from)?;
        let tick = self.0.scheduler.carry_out(self, tick).await.map_err(ApiError::from)?;
        answer("Tick", &tick_document(&tick))
    }

    async fn due(&self, _request: Request<DueRequest>) -> Result<Response<Documents>, Status> {
        let schedules = self.0.store.call(|store| store.schedules()).await.map_err(ApiError::from)?;
        let required = self.required().await?;
        let tests = due(&schedules, &required, &self.decided().await?, self.cadence_now());
        let items = tests.iter().map(|test| document("Due", test)).collect::<Result<_, _>>()?;
        Ok(Response::new(Documents { items }))
    }
}

impl Api {
    /// The wish as a record, or everything that is wrong with it; and what should be known.
    async fn wished(&self, wish: ScheduleAddRequest, caller: &Caller) -> ApiResult<(ScheduleRecord, Vec<String>)> {
        let set = wish.set.into_iter().collect();
        let experiment = scheduled(&wish.file_text, &wish.file_name, &set)?;
        let name = if wish.name.is_empty() { experiment.name.clone() } else { wish.name };
        if let Err(why) = selector::value(&name) {
            let message = format!("{why}; name the schedule with --name");
            return Err(invalid(Problem::new("name", message)));
        }
        let Some(missed) = MissedRule::parse(&wish.missed) else {
            let problem = Problem::new("missed", format!("{:?} is no rule for what was missed", wish.missed));
            return Err(invalid(problem.allowed("skip, run-once")));
        };
        let timezone = if wish.timezone.is_empty() {
            DEFAULT_ZONE.to_owned()
        } else {
            wish.timezone
        };
        let window = Some(wish.window).filter(|window| !window.is_empty());
        let cadence = Cadence::parse(&wish.cron, &timezone, window.as_deref()).map_err(all_invalid)?;
        if cadence.upcoming(self.cadence_now(), 1).is_empty() {
            let problem = Problem::new("cron", format!("{:?} is never planned for a time in which it may start", wish.cron));
            let allowed = match &window {
                Some(window) => format!("a pattern with times in {window:?}, in {timezone}"),
                None => "days that the calendar has".to_owned(),
            };
            return Err(invalid(problem.allowed(allowed)));
        }
        let notes = self.could_run_unattended(&experiment, &wish.confirm).await?;
        if self.0.store.call(|store| store.schedules()).await?.len() >= MAX_SCHEDULES {
            return Err(ApiError::new(
                "limit",
                format!("there are {MAX_SCHEDULES} schedules; remove one first"),
            ));
        }
        let now = self.now();
        let schedule = ScheduleRecord {
            id: ScheduleId::generate(),
            name,
            file_text: wish.file_text,
            file_name: wish.file_name,
            set,
            experiment: experiment.name,
            service: experiment.service,
            environment: experiment.environment,
            cron: wish.cron,
            timezone,
            window,
            missed,
            confirm: wish.confirm,
            paused: false,
            created_at: now,
            created_by: caller.name.clone(),
            considered_until: now,
        };
        Ok((schedule, notes))
    }

    async fn set_paused(&self, request: Request<ScheduleRef>, paused: bool) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let schedule = self.schedule(&request.into_inner().name).await?;
        let call = if paused { "Schedules/Pause" } else { "Schedules/Resume" };
        self.audit(&caller, call, &schedule.name).await?;
        let id = schedule.id.clone();
        let (actor, now) = (caller.actor(), self.now());
        let after = self.0.store.call(move |store| store.pause_schedule(&id, paused, &actor, now)).await;
        let after = after.map_err(ApiError::from)?;
        answer("Schedule", &self.schedule_shown(&after, &self.decided().await?).await?)
    }

    async fn schedule(&self, name: &str) -> ApiResult<ScheduleRecord> {
        let schedules = self.0.store.call(|store| store.schedules()).await?;
        let names: Vec<String> = schedules.iter().map(|schedule| schedule.name.clone()).collect();
        let found = schedules.into_iter().find(|s| s.name == name || s.id.as_str() == name);
        found.ok_or_else(|| not_found("schedule", name, names.iter().map(String::as_str)))
    }

    async fn decided(&self) -> ApiResult<Vec<DecidedTest>> {
        Ok(self.0.store.call(|store| store.last_decided()).await?)
    }

    /// What the files of applied services require. One that cannot be read any more is an error: nobody knows what it asks for.
    async fn required(&self) -> ApiResult<BTreeSet<Test>> {
        let mut tests = BTreeSet::new();
        for shown in self.services_shown().await? {
            let name = Some(shown.service.name.clone());
            let of_it = shown.service.required_tests().into_keys();
            tests.extend(of_it.map(|test| (name.clone(), test.to_owned())));
        }
        Ok(tests)
    }

    async fn schedule_shown(&self, schedule: &ScheduleRecord, decided: &[DecidedTest]) -> ApiResult<ScheduleDocument> {
        let store = &self.0.store;
        let now = self.cadence_now();
        let cadence = Cadence::parse(&schedule.cron, &schedule.timezone, schedule.window.as_deref());
        let next = cadence.map(|cadence| cadence.upcoming(now, NEXT)).unwrap_or_default();
        let id = schedule.id.clone();
        let last = store.call(move |store| store.ticks(&id, 1)).await?;
        let id = schedule.id.clone();
        let run = store.call(move |store| store.last_started(&id)).await?.and_then(|tick| tick.run);
        let summary = match run {
            Some(run) => store.call(move |store| store.summary_of(&run)).await?,
            None => None,
        };
        Ok(ScheduleDocument {
            id: schedule.id.clone(),
            name: schedule.name.clone(),
            experiment: schedule.experiment.clone(),
            service: schedule.service.clone(),
            environment: schedule.environment.clone(),
            cron: schedule.cron.clone(),
            timezone: schedule.timezone.clone(),
            window: schedule.window.clone(),
            missed: schedule.missed,
            set: schedule.set.clone(),
            paused: schedule.paused,
            next: if schedule.paused { Vec::new() } else { next },
            last: last.first().map(tick_document),
            verdict: summary.and_then(|summary| summary.verdict),
            due: standing(decided, schedule.service.as_deref(), &schedule.experiment, now),
            created_at: schedule.created_at,
            created_by: schedule.created_by.clone(),
            notes: Vec::new(),
            ticks: Vec::new(),
        })
    }
}

/// A tick that a person asks for now. The run is in the schedule's name; who asked is in the fleet log.
fn asked(schedule: &ScheduleRecord, caller: &Caller, now: proto_model::time::Timestamp) -> TickRecord {
    TickRecord {
        schedule: schedule.id.clone(),
        name: schedule.name.clone(),
        planned_at: now,
        count: 1,
        manual: true,
        by: format!("{} by {}", by(schedule), caller.name),
        state: TickState::Due,
        reason: None,
        message: None,
        run: None,
        decided_at: now,
    }
}

fn standing(decided: &[DecidedTest], service: Option<&str>, experiment: &str, now: proto_model::time::Timestamp) -> Standing {
    let found = decided
        .iter()
        .find(|test| test.service.as_deref() == service && test.experiment == experiment);
    Standing::of(found.map(|test| test.decided.clone()), now)
}

/// Every test that a service requires, or that has a schedule or a decided run in a service, the ones that press most first.
fn due(
    schedules: &[ScheduleRecord],
    required: &BTreeSet<Test>,
    decided: &[DecidedTest],
    now: proto_model::time::Timestamp,
) -> Vec<DueDocument> {
    let scheduled = schedules
        .iter()
        .map(|schedule| (schedule.service.clone(), schedule.experiment.clone()));
    let of_services = decided.iter().filter(|test| test.service.is_some());
    let known = of_services.map(|test| (test.service.clone(), test.experiment.clone()));
    let tests: BTreeSet<Test> = scheduled.chain(known).chain(required.iter().cloned()).collect();
    let mut documents: Vec<DueDocument> = tests
        .into_iter()
        .map(|(service, experiment)| {
            let mine = schedules.iter().filter(|s| s.service == service && s.experiment == experiment);
            DueDocument {
                schedules: mine.map(|schedule| schedule.name.clone()).collect(),
                due: standing(decided, service.as_deref(), &experiment, now),
                service,
                experiment,
            }
        })
        .collect();
    documents.sort_by_key(|document| std::cmp::Reverse(document.due.state));
    documents
}

fn tick_document(tick: &TickRecord) -> TickDocument {
    TickDocument {
        schedule: tick.name.clone(),
        planned_at: tick.planned_at,
        state: tick.state,
        reason: tick.reason,
        message: tick.message.clone(),
        run: tick.run.clone(),
        count: tick.count,
        decided_at: tick.decided_at,
        by: tick.by.clone(),
    }
}

fn invalid(problem: Problem) -> ApiError {
    all_invalid(Problems::one(problem))
}

fn all_invalid(problems: Problems) -> ApiError {
    let mut error = ApiError::new("usage", problems.to_string());
    error.0.problems = problems.0;
    error
}

fn answer<T: serde::Serialize>(kind: &str, body: &T) -> Result<Response<Document>, Status> {
    Ok(Response::new(Document {
        json: document(kind, body)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::id::RunId;
    use proto_model::schedule::{Decided, DueState};
    use proto_model::time::Timestamp;
    use proto_model::verdict::Verdict;

    const DAY_MS: u64 = 24 * 3_600_000;

    #[test]
    fn what_presses_most_comes_first_and_a_moved_clock_makes_it_overdue() {
        let test = |service: &str, experiment: &str, at: i64| DecidedTest {
            service: Some(service.into()),
            experiment: experiment.into(),
            decided: Decided {
                run: RunId::generate(),
                verdict: Verdict::Passed,
                at: Timestamp(at),
            },
        };
        let decided = [test("shop", "slow-payments", 0), test("basket", "lost-cache", 0)];
        let states = |now: Timestamp| {
            let documents = due(&[], &BTreeSet::new(), &decided, now);
            documents.iter().map(|document| document.due.state).collect::<Vec<_>>()
        };
        assert_eq!(states(Timestamp(0)), [DueState::Fresh, DueState::Fresh]);
        assert_eq!(states(Timestamp(0).plus_ms(36 * DAY_MS)), [DueState::Overdue, DueState::Overdue]);
        let mixed = [test("shop", "slow-payments", 0), test("basket", "lost-cache", 86_400_000 * 30)];
        let documents = due(&[], &BTreeSet::new(), &mixed, Timestamp(0).plus_ms(36 * DAY_MS));
        let named: Vec<_> = documents.iter().map(|d| (d.experiment.as_str(), d.due.state)).collect();
        assert_eq!(named, [("slow-payments", DueState::Overdue), ("lost-cache", DueState::Fresh)]);
        let required = BTreeSet::from([
            (Some("basket".to_owned()), "lost-cache".to_owned()),
            (Some("basket".to_owned()), "lost-host".to_owned()),
        ]);
        let documents = due(&[], &required, &mixed, Timestamp(0).plus_ms(36 * DAY_MS));
        let named: Vec<_> = documents.iter().map(|d| (d.experiment.as_str(), d.due.state)).collect();
        assert_eq!(
            named,
            [
                ("lost-host", DueState::Never),
                ("slow-payments", DueState::Overdue),
                ("lost-cache", DueState::Fresh)
            ],
            "a required test without a run and without a schedule is listed too, and each once"
        );
    }
}
