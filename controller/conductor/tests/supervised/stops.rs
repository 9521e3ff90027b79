//! Stops, halts, restarts, and what arrives when a run is over.

use std::sync::atomic::Ordering;

use controller_conductor::{HostEvent, Latch, StopOutcome, StopTarget};
use controller_report::fold;
use controller_store::Actor;
use proto_model::event::{EventBody, FleetEventBody, NewEvent};
use proto_model::finished::FinishedRun;
use proto_model::halt::HaltState;
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{Cleanliness, InjectionState};
use proto_model::verdict::{Cleanup, RunEndedBy, Verdict};

use crate::fleet::{Bench, now};
use crate::plans::{attack, host};

const LONG: u64 = 60_000;

pub fn returned(name: &str, inventory: Vec<(InjectionId, String, bool)>) -> HostEvent {
    HostEvent::Returned {
        host: host(name),
        boot_id: "b".into(),
        boot_ms: 1,
        rebooted: false,
        downtime_ms: 5,
        inventory,
    }
}

#[tokio::test]
async fn a_stop_answers_when_its_effect_is_gone() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web", "cache"], LONG)).await.unwrap().run;
    bench.acting(&run).await;
    let answer = bench.supervisor.stop(StopTarget::Run(run.clone()), "ann", "enough").await.unwrap();
    assert_eq!((answer.outcome, answer.undone), (StopOutcome::Stopped, 2));
    let document = bench.finished(&run).await;
    assert_eq!(
        (document.verdict, document.ended_by),
        (Some(Verdict::Aborted), Some(RunEndedBy::Operator))
    );
    assert_eq!(document.reasons[0].message, "enough");
    let again = bench.supervisor.stop(StopTarget::Run(run), "ann", "").await.unwrap();
    assert!(matches!(again.outcome, StopOutcome::AlreadyFinished | StopOutcome::Stopped));
}

#[tokio::test]
async fn a_run_whose_driver_broke_is_taken_up_again_and_ends_on_record() {
    let bench = Bench::new().await;
    bench.fleet.breaks.store(true, Ordering::SeqCst);
    let run = bench.start(attack(&["web", "cache"], LONG)).await.unwrap().run;
    bench.acting(&run).await;
    let document = bench.finished(&run).await;
    assert!(!bench.fleet.breaks.load(Ordering::SeqCst), "nothing broke");
    assert_eq!(
        (document.verdict, document.cleanup, document.ended_by),
        (Some(Verdict::Aborted), Cleanup::Proven, Some(RunEndedBy::ControllerRestart))
    );
    assert!(document.injections.iter().all(|i| i.state == InjectionState::Undone));
    wait_for(|| bench.supervisor.active_runs() == 0).await;
    bench.start(attack(&["web"], 200)).await.unwrap();
}

#[tokio::test]
async fn one_injection_is_stopped_by_its_id() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web", "cache"], LONG)).await.unwrap().run;
    let id = bench.acting(&run).await;
    let answer = bench.supervisor.stop(StopTarget::Injection(id), "ann", "").await.unwrap();
    assert_eq!((&answer.run, answer.outcome, answer.undone), (&run, StopOutcome::Stopped, 1));
    let document = bench.finished(&run).await;
    assert!(document.injections.iter().all(|i| i.state == InjectionState::Undone));
    let unknown = bench
        .supervisor
        .stop(StopTarget::Injection(InjectionId::generate()), "ann", "")
        .await
        .unwrap_err();
    assert_eq!(unknown.code, "not_found");
}

#[tokio::test]
async fn a_halt_ends_every_run_and_refuses_new_ones_also_after_a_restart() {
    let bench = Bench::new().await;
    let mut runs = vec![];
    for name in ["web", "cache", "h1"] {
        runs.push(bench.start(attack(&[name], LONG)).await.unwrap().run);
    }
    for run in &runs {
        bench.acting(run).await;
    }
    let answer = bench.supervisor.halt("ann", "smoke").await;
    assert!(answer.state.engaged && answer.state.epoch == 1);
    assert_eq!(bench.fleet.halts.lock().unwrap().as_slice(), std::slice::from_ref(&answer.state));
    for run in &runs {
        let document = bench.finished(run).await;
        assert_eq!(
            (document.verdict, document.ended_by, document.cleanup),
            (Some(Verdict::Aborted), Some(RunEndedBy::Halt), Cleanup::Proven)
        );
    }
    let refused = bench.start(attack(&["web"], LONG)).await.unwrap_err();
    assert_eq!(refused.code, "halted");
    assert!(refused.message.contains("smoke"), "{}", refused.message);
    let bench = bench.restarted().await;
    assert_eq!(bench.start(attack(&["web"], LONG)).await.unwrap_err().code, "halted");
    let released = bench.supervisor.release("bob", "was steam").await.state;
    assert_eq!((released.engaged, released.epoch), (false, 2));
    bench.start(attack(&["web"], 100)).await.unwrap();
}

#[tokio::test]
async fn a_halt_that_a_host_brings_ends_every_run_as_halted() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], LONG)).await.unwrap().run;
    bench.acting(&run).await;
    let brought = HaltState::released().engage("host cache", "smoke in the rack", bench.supervisor.now());
    // The dispatcher has put it there; one that was released meanwhile ends nothing.
    bench.fleet.say(HostEvent::Halted(brought.clone())).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(bench.document(&run).await.ended_by, None);
    bench.fleet.latch.set(brought.clone()).unwrap();
    bench.fleet.say(HostEvent::Halted(brought)).await;
    let document = bench.finished(&run).await;
    assert_eq!(
        (document.verdict, document.ended_by, document.cleanup),
        (Some(Verdict::Aborted), Some(RunEndedBy::Halt), Cleanup::Proven)
    );
}

#[tokio::test]
async fn a_restart_stops_what_it_finds_when_its_host_returns() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], LONG)).await.unwrap().run;
    let id = bench.acting(&run).await;
    let bench = bench.restarted().await;
    assert_eq!(bench.supervisor.active_runs(), 1);
    bench.fleet.hold(&id, &run, "web");
    // The facts that the former controller has heard are taken.
    bench.fleet.say(returned("web", vec![(id.clone(), run.to_string(), false)])).await;
    let document = bench
        .when(&run, |d| {
            d.state == proto_model::event::RunPhase::Finished || d.injections[0].ended_at.is_some()
        })
        .await;
    assert!(bench.fleet.stopped.lock().unwrap().contains(&id), "{document:?}");
}

#[tokio::test]
async fn what_no_run_owns_is_stopped_and_its_end_settled() {
    let bench = Bench::new().await;
    let (stranger, run) = (InjectionId::generate(), RunId::generate());
    bench.fleet.hold(&stranger, &run, "web");
    bench
        .fleet
        .say(returned("web", vec![(stranger.clone(), run.to_string(), false)]))
        .await;
    wait_for(|| bench.fleet.settled.lock().unwrap().contains(&stranger)).await;
    assert_eq!(*bench.fleet.stopped.lock().unwrap(), [stranger]);
    let id = run.clone();
    assert!(
        bench.store.call(move |store| store.run_events(&id, 1)).await.is_err(),
        "a run that nobody started was made up"
    );
}

#[tokio::test]
async fn an_end_told_again_after_the_run_is_settled_again_and_changes_nothing() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], 100)).await.unwrap().run;
    let before = bench.finished(&run).await;
    let id = before.injections[0].id.clone();
    bench.fleet.settled.lock().unwrap().clear();
    bench.fleet.repeat_end(&id).await;
    wait_for(|| bench.fleet.settled.lock().unwrap().contains(&id)).await;
    let after = bench.document(&run).await;
    assert_eq!((after.verdict, after.exit_code), (before.verdict, before.exit_code));
}

#[tokio::test]
async fn a_late_proof_amends_the_cleanup_and_clears_the_host() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], 2_000)).await.unwrap().run;
    bench.acting(&run).await;
    bench.fleet.away.lock().unwrap().insert(host("web"));
    bench
        .fleet
        .say(HostEvent::Lost {
            host: host("web"),
            last_seen: now(),
        })
        .await;
    let document = bench.finished(&run).await;
    assert_eq!(
        (document.verdict, document.exit_code, document.cleanup),
        (Some(Verdict::Error), Some(8), Cleanup::Unproven)
    );
    wait_for(|| {
        bench
            .fleet
            .refreshed
            .lock()
            .unwrap()
            .last()
            .is_some_and(|r| r.cleanliness == Cleanliness::Unproven)
    })
    .await;
    assert!(
        bench.supervisor.verify(&host("web")).await.is_err(),
        "a host that is away cannot prove anything"
    );
    bench.fleet.away.lock().unwrap().clear();
    bench.supervisor.verify(&host("web")).await.unwrap();
    let amended = bench.document(&run).await;
    assert_eq!(
        (amended.verdict, amended.exit_code, amended.cleanup),
        (Some(Verdict::Error), Some(8), Cleanup::Proven)
    );
    let id = run.clone();
    let events = bench.store.call(move |store| store.run_events(&id, 1)).await.unwrap();
    assert!(matches!(events.last().unwrap().body, EventBody::RunAmended { .. }));
    assert_eq!(
        bench.fleet.refreshed.lock().unwrap().last().unwrap().cleanliness,
        Cleanliness::Clean
    );
    // Asked once more there is no more news.
    bench.supervisor.verify(&host("web")).await.unwrap();
    assert_eq!(
        bench.store.call(move |store| store.run_events(&run, 1)).await.unwrap().len(),
        events.len()
    );
}

/// From now on the name is another machine's.
async fn replace_machine(bench: &Bench, host: &HostName) {
    let name = host.clone();
    let mut record = bench.store.call(move |store| store.host(&name)).await.unwrap().unwrap();
    record.machine_since = now();
    let event = FleetEventBody::HostReplaced {
        host: host.clone(),
        token: "t".into(),
    };
    let actor = Actor {
        by: "web".into(),
        address: String::new(),
    };
    bench
        .store
        .call(move |store| store.put_host(&record, event, &actor, now()))
        .await
        .unwrap();
}

#[tokio::test]
async fn another_machine_of_the_same_name_proves_nothing_for_the_past() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], 2_000)).await.unwrap().run;
    bench.acting(&run).await;
    bench.fleet.away.lock().unwrap().insert(host("web"));
    bench
        .fleet
        .say(HostEvent::Lost {
            host: host("web"),
            last_seen: now(),
        })
        .await;
    bench.finished(&run).await;
    replace_machine(&bench, &host("web")).await;
    bench.fleet.away.lock().unwrap().clear();
    bench.supervisor.verify(&host("web")).await.unwrap();
    assert_eq!(bench.document(&run).await.cleanup, Cleanup::Unproven);
}

#[tokio::test]
async fn a_host_that_returns_after_its_run_is_asked_at_once() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], 2_000)).await.unwrap().run;
    bench.acting(&run).await;
    bench.fleet.away.lock().unwrap().insert(host("web"));
    let lost = HostEvent::Lost {
        host: host("web"),
        last_seen: now(),
    };
    bench.fleet.say(lost).await;
    assert_eq!(bench.finished(&run).await.cleanup, Cleanup::Unproven);
    wait_for(|| !bench.fleet.refreshed.lock().unwrap().is_empty()).await;
    bench.fleet.away.lock().unwrap().clear();
    let asked = std::time::Instant::now();
    bench.fleet.say(returned("web", vec![])).await;
    bench.when(&run, |run| run.cleanup == Cleanup::Proven).await;
    assert!(asked.elapsed() < std::time::Duration::from_secs(3), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn what_is_owed_is_known_after_a_restart() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], 2_000)).await.unwrap().run;
    bench.acting(&run).await;
    bench.fleet.away.lock().unwrap().insert(host("web"));
    bench
        .fleet
        .say(HostEvent::Lost {
            host: host("web"),
            last_seen: now(),
        })
        .await;
    bench.finished(&run).await;
    wait_for(|| !bench.fleet.refreshed.lock().unwrap().is_empty()).await;
    bench.supervisor.rebuild_summaries().await.unwrap();
    // However many runs there were since.
    for _ in 0..LATER {
        clean(&bench, &run).await;
    }
    let bench = bench.restarted().await;
    bench.supervisor.verify(&host("web")).await.unwrap();
    assert_eq!(bench.document(&run).await.cleanup, Cleanup::Proven);
}

/// More than the store is asked for at once.
const LATER: usize = 1_100;

/// One more run of the same plan on record, over at once and with nothing to prove.
async fn clean(bench: &Bench, like: &RunId) {
    let like = like.clone();
    let events = bench.store.call(move |store| store.run_events(&like, 1)).await.unwrap();
    let ends = |body: &EventBody| matches!(body, EventBody::RunAccepted { .. } | EventBody::RunJudged { .. });
    let told = events.into_iter().filter(|event| ends(&event.body)).map(|event| NewEvent {
        at: event.at,
        by: event.by,
        source: None,
        body: event.body,
    });
    let run = RunId::generate();
    let (id, events) = (run.clone(), told.collect());
    let stored = bench.store.call(move |store| store.append(&id, events)).await.unwrap();
    let mut known = FinishedRun::from(&fold(&stored).unwrap());
    known.summary.hosts_unclean = 0;
    let keep = bench.store.call(move |store| store.keep_finished(&run, 2, Some(&known)));
    keep.await.unwrap();
}

pub async fn wait_for(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("waited in vain");
}
