//! Summaries of runs: there when a run is finished, right after an amendment, and made again where they are missing.

use controller_conductor::HostEvent;
use controller_report::fold;
use controller_store::RunPage;
use proto_model::event::{EventBody, NewEvent};
use proto_model::id::RunId;
use proto_model::summary::RunSummary;
use proto_model::verdict::Cleanup;

use crate::fleet::{Bench, now};
use crate::plans::{attack, host};

/// The run's page once it has a summary.
async fn page(bench: &Bench) -> RunPage {
    for _ in 0..500 {
        let page = bench.store.call(|store| store.run_pages(1, false)).await.unwrap().remove(0);
        if page.summary.is_some() {
            return page;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("no summary was kept");
}

async fn told(bench: &Bench, run: &RunId) -> RunSummary {
    let run = run.clone();
    let events = bench.store.call(move |store| store.run_events(&run, 1)).await.unwrap();
    RunSummary::from(&fold(&events).unwrap())
}

#[tokio::test]
async fn a_finished_run_has_one_that_says_what_its_events_say() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web", "cache"], 200)).await.unwrap().run;
    bench.finished(&run).await;
    let summary = page(&bench).await.summary.unwrap();
    assert_eq!(summary, told(&bench, &run).await);
    assert_eq!((summary.hosts_total, summary.injections_total, summary.hosts_unclean), (2, 2, 0));
}

#[tokio::test]
async fn an_amendment_is_in_it_at_once() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], 2_000)).await.unwrap().run;
    bench.acting(&run).await;
    bench.fleet.away.lock().unwrap().insert(host("web"));
    let lost = HostEvent::Lost {
        host: host("web"),
        last_seen: now(),
    };
    bench.fleet.say(lost).await;
    bench.finished(&run).await;
    assert_eq!(page(&bench).await.summary.unwrap().cleanup, Cleanup::Unproven);
    bench.fleet.away.lock().unwrap().clear();
    bench.supervisor.verify(&host("web")).await.unwrap();
    let page = page(&bench).await;
    let summary = page.summary.unwrap();
    assert_eq!((summary.cleanup, summary.hosts_unclean), (Cleanup::Proven, 0));
    assert_eq!(
        page.last_seq,
        bench.store.call(move |store| store.run_events(&run, 1)).await.unwrap().len() as u64
    );
}

#[tokio::test]
async fn missing_ones_are_made_and_a_run_without_a_beginning_holds_nothing_up() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], 200)).await.unwrap().run;
    bench.finished(&run).await;
    page(&bench).await;
    // Runs of a store from before there were summaries: the same events under ids of their own.
    let events = bench.store.call(move |store| store.run_events(&run, 1)).await.unwrap();
    for headless in [false, true] {
        let copied = events
            .iter()
            .skip(usize::from(headless))
            .filter(|e| e.source.is_none())
            .map(|event| NewEvent {
                at: event.at,
                by: event.by.clone(),
                source: None,
                body: match event.body.clone() {
                    EventBody::RunAccepted {
                        digest,
                        plan,
                        injections,
                        halt_epoch,
                        ..
                    } => EventBody::RunAccepted {
                        digest,
                        plan,
                        injections,
                        idempotency_key: None,
                        halt_epoch,
                    },
                    body => body,
                },
            });
        let (run, events) = (RunId::generate(), copied.collect());
        bench.store.call(move |store| store.append(&run, events)).await.unwrap();
    }
    assert_eq!(bench.store.call(|store| store.outdated(10)).await.unwrap().len(), 2);
    assert_eq!(bench.supervisor.rebuild_summaries().await.unwrap(), 1);
    let pages = bench.store.call(|store| store.run_pages(10, false)).await.unwrap();
    let kept: Vec<bool> = pages.iter().map(|page| page.summary.is_some()).collect();
    assert_eq!(kept, [false, true, true]);
}
