//! Many hosts lost at once: everything is halted by the controller itself, unless nothing runs or they were meant to fall silent.

use controller_conductor::HostEvent;
use proto_model::id::{InjectionId, RunId};
use proto_model::plan::{Plan, StepBody};
use proto_model::verdict::{RunEndedBy, Verdict};

use crate::fleet::{Bench, now};
use crate::plans::{attack, host};
use crate::stops::{returned, wait_for};

const LONG: u64 = 60_000;
/// Of the bench's 112: 22 are just less than the share.
const MANY: usize = 23;

async fn lose(bench: &Bench, names: &[String]) {
    for name in names {
        bench.fleet.away.lock().unwrap().insert(host(name));
        let last_seen = now();
        bench
            .fleet
            .say(HostEvent::Lost {
                host: host(name),
                last_seen,
            })
            .await;
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("h{n}")).collect()
}

/// Until everything that was said so far is heard: what is said last has an effect that shows.
async fn heard(bench: &Bench) {
    let (stranger, run) = (InjectionId::generate(), RunId::generate());
    bench.fleet.hold(&stranger, &run, "cache");
    bench
        .fleet
        .say(returned("cache", vec![(stranger.clone(), run.to_string(), false)]))
        .await;
    wait_for(|| bench.fleet.settled.lock().unwrap().contains(&stranger)).await;
}

fn isolating(mut plan: Plan) -> Plan {
    for step in &mut plan.steps {
        if let StepBody::Fault(fault) = &mut step.body {
            fault.params = serde_json::json!({"isolating": true});
        }
    }
    plan
}

#[tokio::test]
async fn more_than_the_share_at_once_is_a_halt_until_somebody_releases_it() {
    let bench = Bench::new().await;
    let run = bench.start(attack(&["web"], LONG)).await.unwrap().run;
    bench.acting(&run).await;
    lose(&bench, &names(MANY - 1)).await;
    heard(&bench).await;
    assert!(!bench.supervisor.halt_state().engaged, "22 of 112 are not more than 20%");
    lose(&bench, &names(MANY)[MANY - 1..]).await;
    let document = bench.finished(&run).await;
    assert_eq!(
        (document.verdict, document.ended_by),
        (Some(Verdict::Aborted), Some(RunEndedBy::Halt))
    );
    let halt = bench.supervisor.halt_state();
    assert_eq!((halt.engaged, halt.by.as_str()), (true, "controller: mass loss"));
    assert!(
        halt.reason.contains("23 of 112") && halt.reason.contains("21%") && halt.reason.contains("30s"),
        "{}",
        halt.reason
    );
    assert_eq!(bench.fleet.halts.lock().unwrap().len(), 1, "halted once");
    assert_eq!(bench.start(attack(&["web"], 100)).await.unwrap_err().code, "halted");
    bench.supervisor.release("ann", "the switch is back").await;
    bench.start(attack(&["web"], 100)).await.unwrap();
}

#[tokio::test]
async fn nothing_is_halted_while_nothing_runs_or_when_the_silence_was_meant_or_the_controller_leaves() {
    let bench = Bench::new().await;
    lose(&bench, &names(40)).await;
    heard(&bench).await;
    assert!(!bench.supervisor.halt_state().engaged, "nothing ran");
    bench.fleet.away.lock().unwrap().clear();

    let meant = names(MANY);
    let texts: Vec<&str> = meant.iter().map(String::as_str).collect();
    let run = bench.start(isolating(attack(&texts, LONG))).await.unwrap().run;
    bench.acting(&run).await;
    lose(&bench, &meant).await;
    heard(&bench).await;
    assert!(!bench.supervisor.halt_state().engaged, "the silence was meant");

    bench.supervisor.leave();
    lose(&bench, &names(80)[MANY..]).await;
    heard(&bench).await;
    assert!(!bench.supervisor.halt_state().engaged, "the controller closed the sessions itself");
}
