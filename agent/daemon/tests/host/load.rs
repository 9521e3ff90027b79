//! cpu.burn on the real kernel: what the kernel accounts to its group is what was asked, on a machine that others use too.

use std::time::Duration;

use proto_model::injection::{AgentFact, EffectState, Observed};
use serde_json::{Value, json};

use crate::agent::{Agent, is_root};

/// Windows looked at before giving up: others may take the cores for a while.
const WINDOWS: usize = 5;

/// The first confirmed window, or the last one seen.
fn window(params: Value) -> Observed {
    let agent = Agent::holding(&[("cpu.burn", params)]);
    let mut last = None;
    for _ in 0..WINDOWS {
        let observed = agent.hear(Duration::from_secs(12), |r| match &r.fact {
            AgentFact::Observed(observed) => Some(observed.clone()),
            _ => None,
        });
        let observed = observed.expect("no window was told");
        let confirmed = observed.observation.state == EffectState::Confirmed;
        last = Some(observed);
        if confirmed {
            break;
        }
    }
    last.unwrap()
}

#[test]
fn what_is_asked_is_what_the_kernel_accounts() {
    if !is_root() {
        return;
    }
    for percent in [20.0, 50.0, 80.0, 100.0] {
        let Observed { observation, .. } = window(json!({"percent": percent, "cores": 1}));
        println!(
            "asked {percent}, measured {:?}: {:?} {:?}",
            observation.measured, observation.state, observation.note
        );
        let saturated = observation.note.as_deref().is_some_and(|note| note.contains("saturated"));
        assert!(observation.state == EffectState::Confirmed || saturated, "{observation:?}");
    }
}

#[test]
fn total_fills_the_core_up_to_what_is_asked_or_says_that_it_was_fuller() {
    if !is_root() {
        return;
    }
    let cpus = agent_view::HostView::usable_cpus(&agent_view::LinuxView::new()).unwrap();
    let last = cpus.last().unwrap().to_string();
    let Observed { observation, .. } = window(json!({"percent": 70, "mode": "total", "pin": last}));
    println!(
        "asked 70 in all, measured {:?}: {:?} {:?}",
        observation.measured, observation.state, observation.note
    );
    assert!(observation.measured.unwrap() >= 60.0, "{observation:?}");
}
