//! Rows against events: what is kept of each finished run is what its events say from the first one on, and asking reads no events.

use controller_report::fold;
use proto_model::event::{EventBody, NewEvent, RunPhase};
use proto_model::finished::FinishedRun;
use proto_model::history::{Moment, Slice};
use proto_model::id::{HostName, RunId};
use proto_model::injection::CleanProof;
use proto_model::plan::{Limits, Origin, Plan};
use proto_model::service::ServiceRecord;
use proto_model::time::Timestamp;
use proto_model::verdict::{Cleanup, Reason, RunEndedBy, Verdict};
use proto_wire::v1::evidence_server::Evidence;
use proto_wire::v1::runs_server::Runs;
use proto_wire::v1::{LevelsRequest, RunRef, RunsListRequest};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tonic::Request;

use crate::http::tests::{NOW, World};

const SERVICE: &str = "apiVersion: fracas/v1
kind: Service
name: web
owners: [team-web]
environments: { staging: {}, production: {} }
dependencies:
  critical:
    - { name: cache, criticality_period: 5m, rto: 1m, rpo: 0s, probes: [answers], tests: [{ name: busy-cache, variables: { n: 1 } }] }
playbooks:
  - { name: restore-cache, dependency: cache, steps: [start it] }
";

pub(crate) fn event(at: i64, body: EventBody) -> NewEvent {
    NewEvent {
        at: Timestamp(at),
        by: "controller".into(),
        source: None,
        body,
    }
}

pub(crate) fn accepted(random: &mut StdRng) -> EventBody {
    let pick = |random: &mut StdRng, of: &[&str]| of[random.random_range(0..of.len())].to_owned();
    let service = Some(pick(random, &["web", "mail"])).filter(|_| random.random_bool(0.9));
    let plan = Plan {
        name: pick(random, &["busy-cache", "lost-cache"]),
        origin: [Origin::Experiment, Origin::Attack][usize::from(random.random_bool(0.1))],
        service,
        environment: pick(random, &["staging", "production"]),
        hypothesis: None,
        guards: Vec::new(),
        limits: Limits::default(),
        steps: Vec::new(),
        hosts: Vec::new(),
        seed: 7,
        notes: Vec::new(),
        source: String::new(),
        variables: [("n".to_owned(), random.random_range(0..3).into())].into(),
        production: random.random_bool(0.2),
    };
    EventBody::RunAccepted {
        digest: plan.digest(),
        plan: Box::new(plan),
        injections: Vec::new(),
        idempotency_key: None,
        halt_epoch: 0,
    }
}

pub(crate) fn judged(random: &mut StdRng) -> EventBody {
    let verdicts = [Verdict::Passed, Verdict::Failed, Verdict::Inconclusive];
    EventBody::RunJudged {
        verdict: verdicts[random.random_range(0..3)],
        cleanup: [Cleanup::Proven, Cleanup::Unproven][random.random_range(0..2)],
        exit_code: 0,
        ended_by: RunEndedBy::Completed,
        reasons: vec![Reason::new("because", format!("because of {}", random.random_range(0..9)))],
        detection_ms: None,
        recovery_ms: Some(random.random_range(0..9_000)),
        judge_version: 1,
    }
}

/// A host is asked again, and its run amended: at the end of a run, or long after.
pub(crate) fn amended(random: &mut StdRng, at: i64) -> Vec<NewEvent> {
    let left = [Vec::new(), vec!["a rule".to_owned()]][random.random_range(0..2)].clone();
    let cleanup = if left.is_empty() { Cleanup::Proven } else { Cleanup::Dirty };
    let host = HostName::parse("web-1").unwrap();
    let proof = CleanProof::of(left, Vec::new(), Vec::new(), Vec::new(), "boot");
    let verified = EventBody::HostVerified { host: host.clone(), proof };
    let amended = EventBody::RunAmended {
        cleanup,
        hosts: vec![host],
        cause: "asked again".into(),
    };
    vec![event(at, verified), event(at, amended)]
}

pub(crate) async fn append(world: &World, run: &RunId, events: Vec<NewEvent>) {
    let run = run.clone();
    world.api.0.store.call(move |store| store.append(&run, events)).await.unwrap();
}

async fn runs(world: &World, random: &mut StdRng, count: usize) -> Vec<RunId> {
    let mut made = Vec::new();
    for number in 0..count as i64 {
        let at = NOW.0 - 1_000_000 + number * 1_000;
        let finished = EventBody::RunPhase {
            from: RunPhase::Verifying,
            to: RunPhase::Finished,
        };
        let mut events = vec![
            event(at, accepted(random)),
            event(at + 10, judged(random)),
            event(at + 11, finished),
        ];
        match random.random_range(0..8) {
            // It goes on.
            0 => events.truncate(1),
            // After the verdict, before the end.
            1 => events.truncate(2),
            2 => drop(events.remove(0)),
            3 => events.extend(amended(random, at + 500)),
            _ => {}
        }
        let run = RunId::generate();
        append(world, &run, events).await;
        made.push(run);
    }
    made
}

/// Every kept row of a service, by asking for all of them.
async fn rows(world: &World, service: &'static str) -> Vec<FinishedRun> {
    let all = Moment::end_of(Timestamp(i64::MAX));
    let rows = world.api.0.store.call(move |store| store.newest(service, &Slice::All, &all, 1_000));
    rows.await.unwrap()
}

/// From the events of every run, from the first one on.
async fn folded(world: &World, runs: &[RunId], service: &str) -> Vec<FinishedRun> {
    let mut all = Vec::new();
    for run in runs {
        let id = run.clone();
        let events = world.api.0.store.call(move |store| store.run_events(&id, 1)).await.unwrap();
        let known = fold(&events).map(|run| FinishedRun::from(&run));
        all.extend(known.filter(|known| known.speaks().is_some_and(|(of, ..)| of == service)));
    }
    all.sort_by_key(|run| std::cmp::Reverse((run.summary.finished_at, run.summary.id.clone())));
    all
}

async fn says_the_same(world: &World, made: &[RunId]) {
    world.api.read_outdated().await.unwrap();
    for service in ["web", "mail"] {
        let rows = rows(world, service).await;
        assert_eq!(rows, folded(world, made, service).await, "{service}");
        compact(world).await;
        assert_eq!(rows, folded(world, made, service).await, "{service}, compacted");
    }
}

pub(crate) async fn compact(world: &World) {
    while world.api.0.store.call(|store| store.compact(2_000)).await.unwrap() > 0 {}
}

#[tokio::test]
async fn rows_say_what_the_events_say_after_late_events_and_in_a_store_without_rows() {
    let world = World::new().await;
    for seed in 0..3 {
        let random = &mut StdRng::seed_from_u64(seed);
        let made = runs(&world, random, 60).await;
        says_the_same(&world, &made).await;
        for run in made.iter().step_by(3) {
            append(&world, run, amended(random, NOW.0)).await;
        }
        says_the_same(&world, &made).await;
        // As an older version leaves it: events, and nothing that was read of them.
        let other = rusqlite::Connection::open(world.store_file()).unwrap();
        other.execute_batch("DELETE FROM summaries; UPDATE runs SET outdated = 1").unwrap();
        says_the_same(&world, &made).await;
        other
            .execute_batch("DELETE FROM summaries; DELETE FROM events; DELETE FROM blocks; DELETE FROM packed_facts; DELETE FROM runs")
            .unwrap();
    }
}

async fn levels(world: &World) -> Vec<String> {
    let answer = world.api.levels(Request::new(LevelsRequest { service: String::new() })).await;
    answer.unwrap().into_inner().items
}

async fn list(world: &World) -> Vec<String> {
    let request = RunsListRequest {
        limit: 1_000,
        active_only: false,
    };
    world.api.list(Request::new(request)).await.unwrap().into_inner().items
}

/// A controller that knows one service.
pub(crate) async fn with_service() -> World {
    let world = World::new().await;
    let service = ServiceRecord {
        name: "web".into(),
        text: SERVICE.into(),
        digest: "sha256:00".into(),
        applied_at: NOW,
        applied_by: "root@local".into(),
    };
    let put = world.api.0.store.call(move |store| store.put_service(&service, &World::actor()));
    put.await.unwrap();
    world
}

#[tokio::test]
async fn levels_and_lists_read_no_event_of_a_finished_run() {
    let world = with_service().await;
    let random = &mut StdRng::seed_from_u64(7);
    let finished = vec![event(NOW.0 - 10, accepted(random)), event(NOW.0 - 5, judged(random))];
    let run = RunId::generate();
    append(&world, &run, finished).await;
    let (before, listed) = (levels(&world).await, list(&world).await);
    let other = rusqlite::Connection::open(world.store_file()).unwrap();
    // Whoever reads an event from now on fails.
    other.execute_batch("UPDATE events SET event = 'no event'").unwrap();
    let shown = world.api.show(Request::new(RunRef { run: run.to_string() })).await;
    assert!(shown.is_err(), "its events are read for the whole run");
    assert_eq!((levels(&world).await, list(&world).await), (before, listed));
}
