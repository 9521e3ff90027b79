//! What may start, what is refused at that moment and why, and what a start leaves on record.

use std::sync::atomic::Ordering;

use controller_store::LastLook;
use proto_model::document::ErrorBody;
use proto_model::event::EventBody;
use proto_model::host::{Availability, Membership};
use proto_model::plan::{Origin, Plan};
use proto_model::verdict::{Cleanup, Verdict};

use crate::fleet::{Bench, view};
use crate::plans::{attack, wait};

const LONG: u64 = 60_000;

#[tokio::test]
async fn a_run_is_recorded_before_it_acts_and_settled_after_it_is_recorded() {
    let bench = Bench::new().await;
    let mut news = bench.supervisor.watch();
    let run = bench.start(attack(&["web", "cache"], 200)).await.unwrap().run;
    let document = bench.finished(&run).await;
    assert_eq!(
        (document.verdict, document.exit_code, document.cleanup),
        (Some(Verdict::Inconclusive), Some(0), Cleanup::Proven)
    );
    assert!(
        !bench.fleet.unrecorded.load(Ordering::SeqCst),
        "an order went out that was not on record"
    );
    assert_eq!(bench.fleet.settled.lock().unwrap().len(), 2);
    let stored = bench.store.call(move |store| store.run_events(&run, 1)).await.unwrap();
    assert!(stored.iter().enumerate().all(|(i, e)| e.seq == i as u64 + 1));
    let told: Vec<u64> = std::iter::from_fn(|| news.try_recv().ok()).map(|e| e.seq).collect();
    assert_eq!(
        told,
        stored.iter().map(|e| e.seq).collect::<Vec<_>>(),
        "watchers see what is stored, in its order"
    );
}

#[tokio::test]
async fn a_key_that_was_used_names_its_run_and_starts_nothing() {
    let bench = Bench::new().await;
    let first = bench
        .supervisor
        .start(view(attack(&["web"], LONG)), "ann", Some("k".into()))
        .await
        .unwrap();
    let again = bench
        .supervisor
        .start(view(attack(&["web"], LONG)), "ann", Some("k".into()))
        .await
        .unwrap();
    assert_eq!((again.run, again.repeated, first.repeated), (first.run, true, false));
    assert_eq!(bench.supervisor.active_runs(), 1);
}

#[tokio::test]
async fn an_experiment_has_its_hosts_to_itself() {
    let experiment = |hosts: &[&str]| Plan {
        origin: Origin::Experiment,
        ..attack(hosts, LONG)
    };
    for (first, second) in [
        (experiment(&["web"]), attack(&["cache", "web"], LONG)),
        (attack(&["web"], LONG), experiment(&["cache", "web"])),
        (experiment(&["web"]), experiment(&["cache", "web"])),
    ] {
        let bench = Bench::new().await;
        let run = bench.start(first).await.unwrap().run;
        let refused = bench.start(second).await.unwrap_err();
        assert_eq!((refused.code.as_str(), refused.hosts.len()), ("conflict", 1));
        assert!(refused.hosts[0].message.contains(run.as_str()), "{}", refused.hosts[0].message);
        bench.start(attack(&["cache"], LONG)).await.unwrap();
    }
}

#[tokio::test]
async fn attacks_share_a_host() {
    let bench = Bench::new().await;
    let first = bench.start(attack(&["web"], LONG)).await.unwrap().run;
    let second = bench.start(attack(&["cache", "web"], LONG)).await.unwrap().run;
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_host_that_is_away_or_unknown_is_refused() {
    let bench = Bench::new().await;
    bench.fleet.away.lock().unwrap().insert(crate::plans::host("web"));
    let refused = bench.start(attack(&["web", "stranger"], LONG)).await.unwrap_err();
    let words: Vec<&str> = refused.hosts.iter().map(|h| h.message.as_str()).collect();
    assert_eq!(words, ["stranger is not enrolled", "web is not connected"]);
}

#[tokio::test]
async fn a_cordon_or_a_lock_of_this_moment_holds_for_a_plan_that_was_made_before() {
    let bench = Bench::new().await;
    let plan = attack(&["web", "cache"], LONG);
    let (web, cache) = (crate::plans::host("web"), crate::plans::host("cache"));
    bench.fleet.availability.lock().unwrap().insert(web, Availability::Cordoned);
    bench.fleet.membership.lock().unwrap().insert(cache, Membership::Locked);
    let refused = bench.start(plan).await.unwrap_err();
    let words: Vec<&str> = refused.hosts.iter().map(|h| h.message.as_str()).collect();
    assert_eq!(words, ["cache is locked", "web is cordoned"]);
    assert_eq!(bench.store.call(|store| store.runs(10, false)).await.unwrap(), []);
}

#[tokio::test]
async fn what_the_last_look_finds_is_not_recorded_as_a_run() {
    let bench = Bench::new().await;
    let start = async |forbids: Option<&str>| {
        let found = forbids.map(|why| ErrorBody::new("frozen", why));
        let plan = view(attack(&["web"], 200));
        let look: LastLook<ErrorBody> = Box::new(|_, _| Ok(found));
        bench.supervisor.start_unless(plan, "schedule:weekly", Some("k".into()), look).await
    };
    let refused = start(Some("year end")).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.message.as_str()), ("frozen", "year end"));
    assert_eq!(
        (
            bench.store.call(|store| store.runs(10, false)).await.unwrap(),
            bench.supervisor.active_runs()
        ),
        (vec![], 0)
    );
    let run = start(None).await.unwrap().run;
    assert_eq!(bench.store.call(|store| store.run_by_key("k")).await.unwrap(), Some(run.clone()));
    let again = start(Some("year end")).await.unwrap();
    assert_eq!(
        (again.run, again.repeated),
        (run, true),
        "what was started before is named, whatever forbids another"
    );
}

#[tokio::test]
async fn policy_counts_over_all_active_runs() {
    let bench = Bench::ruled_by("[policy.staging]\nmax_faulted_hosts = 2\nruns_per_service = 1").await;
    let of = |service: &str, host: &str| Plan {
        service: Some(service.to_owned()),
        ..attack(&[host], LONG)
    };
    bench.start(of("shop", "web")).await.unwrap();
    let second = bench.start(of("shop", "h1")).await.unwrap_err();
    assert!(second.code == "policy" && second.message.contains("shop"), "{second:?}");
    assert_eq!(
        bench
            .supervisor
            .active()
            .iter()
            .filter(|run| run.service.as_deref() == Some("shop"))
            .count(),
        1
    );
    bench.start(of("mail", "h2")).await.unwrap();
    let third = bench.start(of("news", "h3")).await.unwrap_err();
    assert!(
        third.code == "policy" && third.message.contains("policy.staging.max_faulted_hosts"),
        "{third:?}"
    );
    let closed = bench
        .start(Plan {
            environment: "production".into(),
            ..attack(&["h4"], LONG)
        })
        .await
        .unwrap_err();
    assert_eq!(closed.code, "policy");
}

#[tokio::test]
async fn a_hundred_runs_at_once_and_not_one_more() {
    let bench = Bench::new().await;
    let mut runs = vec![];
    for i in 0..100 {
        runs.push(bench.start(attack(&[&format!("h{i}")], 1_500)).await.unwrap().run);
    }
    assert_eq!(bench.start(attack(&["h105"], LONG)).await.unwrap_err().code, "limit");
    for run in &runs {
        assert_eq!(bench.finished(run).await.exit_code, Some(0));
    }
}

#[tokio::test]
async fn the_first_event_names_who_started_it_and_gives_every_injection_an_id() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web", "cache"], 100)).await.unwrap().run;
    let first = bench.store.call(move |store| store.run_events(&run, 1)).await.unwrap().remove(0);
    let EventBody::RunAccepted { injections, .. } = first.body else {
        panic!("{first:?}")
    };
    assert_eq!((first.by.as_str(), injections.len()), ("ann", 2));
    assert_ne!(injections[0].id, injections[1].id);
}

/// Between the end of what a step waits for and the start of the next one, with a store in memory.
const BETWEEN_STEPS_MS: u64 = 5;

#[tokio::test]
async fn a_step_begins_when_the_one_before_is_over_and_not_on_a_beat() {
    let mut plan = attack(&["web"], 100);
    plan.steps.extend((1..=20).map(|at| wait(at, 33)));
    let bench = Bench::new().await;
    let run = bench.start(plan).await.unwrap().run;
    bench.finished(&run).await;
    let events = bench.store.call(move |store| store.run_events(&run, 1)).await.unwrap();
    let started = events.iter().filter_map(|event| match &event.body {
        EventBody::StepStarted { path, .. } if path != "steps[0]" => Some(event.at),
        _ => None,
    });
    let started: Vec<_> = started.collect();
    let mut late: Vec<u64> = started.windows(2).map(|pair| pair[1].since(pair[0]).saturating_sub(33)).collect();
    late.sort_unstable();
    println!("between two steps, in ms: {late:?}");
    // A machine that is busy with other tests is late now and then; a beat is late every time.
    assert!(late[late.len() / 2] < BETWEEN_STEPS_MS, "{late:?}");
}
