//! Hosts, plans and runs for tests of the policy.

use controller_policy::{ActiveRun, Denial, Occupancy, Policy, Stage, check};
use proto_model::host::{Host, HostFacts};
use proto_model::id::RunId;
use proto_model::plan::{Limits, Origin, Plan};
use serde_json::json;

/// `web-1` to `web-6` of service shop, in staging.
pub fn hosts() -> Vec<Host> {
    let host = |n: usize| {
        serde_json::from_value(json!({
            "name": format!("web-{n}"), "labels": { "env": "staging", "service": "shop" }, "facts": HostFacts::default(),
            "connection": "connected", "cleanliness": "clean", "availability": "open", "membership": "enrolled", "note": null,
            "catalogue_digest": "c", "active_injections": 0, "enrolled_at": "2026-01-01T00:00:00.000Z", "last_seen": null,
            "certificate_not_after": null, "source_address": null
        }))
        .unwrap()
    };
    (1..=6).map(host).collect()
}

/// One step per group of hosts, each over all six hosts that match.
pub fn plan(origin: Origin, steps: &[Vec<usize>], limits: Limits) -> Plan {
    let all: Vec<String> = (1..=6).map(|n| format!("web-{n}")).collect();
    let step = |(at, hosts): (usize, &Vec<usize>)| {
        let injections: Vec<_> = hosts.iter().map(|n| json!({ "host": format!("web-{n}"), "seed": 1 })).collect();
        json!({ "path": format!("steps[{at}]"), "body": { "fault": {
            "fault": "cpu.burn", "params": {}, "duration_ms": 20_000, "reversal": { "kind": "full" }, "matched": 6,
            "injections": injections, "among": all } } })
    };
    let steps: Vec<_> = steps.iter().enumerate().map(step).collect();
    serde_json::from_value(json!({
        "name": "x", "origin": origin, "service": null, "environment": "staging", "hypothesis": null, "guards": [], "limits": limits,
        "steps": steps, "hosts": [], "seed": 1, "notes": [], "source": ""
    }))
    .unwrap()
}

#[derive(Debug)]
pub struct Trial {
    pub policy: Policy,
    pub hosts: Vec<Host>,
    pub runs: Vec<ActiveRun>,
}

impl Trial {
    pub fn new(policy: &str) -> Self {
        Self {
            policy: Policy::from_toml(policy).unwrap(),
            hosts: hosts(),
            runs: Vec::new(),
        }
    }

    pub fn admit(&mut self, plan: &Plan) -> Result<RunId, Denial> {
        self.ask(plan, Stage::Admission)?;
        let run = ActiveRun::new(RunId::generate(), plan);
        self.runs.push(run.clone());
        Ok(run.id)
    }

    pub fn ask(&self, plan: &Plan, stage: Stage<'_>) -> Result<(), Denial> {
        check(plan, stage, &self.policy, &Occupancy::new(&self.hosts, &self.runs))
    }

    pub fn host(&mut self, n: usize) -> &mut Host {
        &mut self.hosts[n - 1]
    }
}
