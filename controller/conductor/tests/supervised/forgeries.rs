//! Hosts that report what is not theirs: other hosts' injections, other probers' samples, runs that are over.

use std::time::Duration;

use controller_conductor::HostEvent;
use proto_model::event::{Event, EventBody};
use proto_model::id::{InjectionId, RunId};
use proto_model::injection::{AgentFact, AgentReport, EffectState, EndedBy, Observation, Observed, UndoAnswer, UndoFailed, Undone};
use proto_model::probe::{ProbeRole, Prober, Sample, SampleResult, SampledBy};

use crate::fleet::{Bench, now};
use crate::plans::{PROBE, attack, experiment, fault, host, probe};

/// Everything that a host could say to spoil or to improve a record.
fn lies() -> Vec<AgentFact> {
    let observation = Observation {
        asked: Some(60.0),
        measured: Some(1.0),
        unit: "percent".into(),
        state: EffectState::Mismatch,
        note: Some("x".repeat(1_000)),
    };
    let undone = Undone {
        ended_by: EndedBy::EndedEarly,
        undone_by: "mallory".into(),
        undo_ms: 1,
        answer: UndoAnswer::UndoneNow,
        drift: vec![],
    };
    let failed = UndoFailed {
        undo: "all of it".into(),
        error: "no".into(),
        attempt: 1,
    };
    vec![
        AgentFact::Observed(Observed {
            window: 9,
            window_ms: 5_000,
            observation,
        }),
        AgentFact::UndoFailed(failed),
        AgentFact::Undone(undone),
    ]
}

async fn lie(bench: &Bench, from: &str, run: &RunId, injection: &InjectionId, numbers: std::ops::Range<u64>) {
    for agent_seq in numbers {
        for (at, fact) in lies().into_iter().enumerate() {
            let report = AgentReport {
                injection: injection.clone(),
                run: run.to_string(),
                agent_seq: 100 + 10 * agent_seq + at as u64,
                boot_id: "b".into(),
                boot_ms: 1,
                fact,
            };
            let host = host(from);
            bench.fleet.say(HostEvent::Report { host, report }).await;
        }
    }
}

async fn events(bench: &Bench, run: &RunId) -> Vec<Event> {
    let run = run.clone();
    bench.store.call(move |store| store.run_events(&run, 1)).await.unwrap()
}

/// Waits until everything that was said before has been routed.
async fn is_routed(bench: &Bench) {
    let (run, id) = (RunId::generate(), InjectionId::generate());
    bench.fleet.hold(&id, &run, "web");
    bench.fleet.repeat_end(&id).await;
    for _ in 0..500 {
        if bench.fleet.settled.lock().unwrap().contains(&id) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("reports were not routed");
}

#[tokio::test]
async fn a_host_cannot_end_what_another_host_holds() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], 1_000)).await.unwrap().run;
    let id = bench.acting(&run).await;
    lie(&bench, "cache", &run, &id, 0..3).await;
    is_routed(&bench).await;
    let document = bench.finished(&run).await;
    let injection = &document.injections[0];
    assert_eq!(
        (injection.ended_by, injection.effect.state),
        (Some(EndedBy::DurationElapsed), EffectState::Confirmed)
    );
    assert!(
        events(&bench, &run).await.iter().all(|event| event.by != "cache"),
        "it is on record"
    );
}

#[tokio::test]
async fn no_report_changes_what_was_judged() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], 200)).await.unwrap().run;
    let id = bench.acting(&run).await;
    let before = bench.finished(&run).await;
    let count = events(&bench, &run).await.len();
    for from in ["cache", "web"] {
        lie(&bench, from, &run, &id, 0..500).await;
    }
    // Of a run that there never was, too.
    lie(&bench, "cache", &RunId::generate(), &id, 0..50).await;
    is_routed(&bench).await;
    assert_eq!(events(&bench, &run).await.len(), count, "late reports fill the store");
    assert_eq!(bench.document(&run).await, before);
}

#[tokio::test]
async fn an_end_that_was_not_known_completes_the_cleanup_and_no_more() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], 2_000)).await.unwrap().run;
    let id = bench.acting(&run).await;
    bench.fleet.away.lock().unwrap().insert(host("web"));
    let lost = HostEvent::Lost {
        host: host("web"),
        last_seen: now(),
    };
    bench.fleet.say(lost).await;
    bench.fleet.mute(&id);
    let judged = bench.finished(&run).await;
    let count = events(&bench, &run).await.len();
    lie(&bench, "cache", &run, &id, 0..3).await;
    lie(&bench, "web", &run, &id, 0..3).await;
    is_routed(&bench).await;
    let after = bench.document(&run).await;
    assert_eq!(events(&bench, &run).await.len(), count + 1, "one end, once");
    assert_eq!((after.verdict, &after.reasons), (judged.verdict, &judged.reasons));
    assert_eq!(after.injections[0].effect, judged.injections[0].effect);
    assert!(after.injections[0].state.is_terminal() && !judged.injections[0].state.is_terminal());
}

#[tokio::test]
async fn what_is_over_the_quota_is_counted_in_one_event() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], 2_000)).await.unwrap().run;
    let id = bench.acting(&run).await;
    let windows = lies().remove(0);
    for agent_seq in 0..500 {
        let report = AgentReport {
            injection: id.clone(),
            run: run.to_string(),
            agent_seq: 100 + agent_seq,
            boot_id: "other".into(),
            boot_ms: 1,
            fact: windows.clone(),
        };
        bench.fleet.say(HostEvent::Report { host: host("web"), report }).await;
    }
    bench.finished(&run).await;
    let events = events(&bench, &run).await;
    let observed = events
        .iter()
        .filter(|e| matches!(e.body, EventBody::InjectionObserved { .. }))
        .count();
    let dropped: Vec<u64> = events
        .iter()
        .filter_map(|event| match event.body {
            EventBody::ReportsDropped { reports, .. } => Some(reports),
            _ => None,
        })
        .collect();
    assert!((30..70).contains(&observed), "{observed} windows on record");
    assert_eq!(dropped.len(), 1);
    assert!(dropped[0] > 400, "{dropped:?}");
}

#[tokio::test]
async fn a_sample_counts_only_from_the_prober_that_was_asked() {
    let mut plan = experiment(&["web", "cache"], vec![fault(0, &["web"], 500)]);
    plan.guards.clear();
    let hypothesis = plan.hypothesis.as_mut().unwrap();
    (hypothesis.before_ms, hypothesis.after_ms) = (2_000, 1_000);
    hypothesis.probes = vec![probe(PROBE, ProbeRole::Hypothesis, Prober::Hosts(vec![host("cache")]))];
    let bench = Bench::new().await;
    let run = bench.start(plan).await.unwrap().run;
    bench.when(&run, |run| run.state == proto_model::event::RunPhase::Before).await;
    let sample = |prober: SampledBy| Sample {
        probe: PROBE.into(),
        prober,
        started_at: now(),
        took_ms: 1,
        result: SampleResult::Good,
        value: None,
        unit: None,
        error: None,
    };
    // In another's name, in the controller's, and in its own without being asked.
    for prober in [SampledBy::Host(host("cache")), SampledBy::Controller, SampledBy::Host(host("web"))] {
        let (host, run) = (host("web"), run.clone());
        let samples = vec![sample(prober); 20];
        bench.fleet.say(HostEvent::Samples { host, run, samples }).await;
    }
    let document = bench.finished(&run).await;
    assert_eq!(document.reasons[0].code, "too_few_samples", "{:?}", document.reasons);
    let good = |event: &Event| matches!(&event.body, EventBody::ProbeSampled { sample, .. } if sample.result == SampleResult::Good);
    assert!(!events(&bench, &run).await.iter().any(good), "a forged sample is on record");
}
