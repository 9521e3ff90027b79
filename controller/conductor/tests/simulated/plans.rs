//! Plans for simulated runs.

use proto_model::catalogue::FaultKind;
use proto_model::id::HostName;
use proto_model::injection::Reversal;
use proto_model::plan::{FaultStep, Hypothesis, Limits, OnFailure, Origin, Plan, PlannedHost, PlannedInjection, PlannedStep, StepBody};
use proto_model::probe::{ProbeCheck, ProbeRole, ProbeSpec, Prober, Tolerance};

pub const PROBE: &str = "answers";
pub const GUARD: &str = "errors";

pub fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

pub fn probe(name: &str, role: ProbeRole, from: Prober) -> ProbeSpec {
    ProbeSpec {
        name: name.to_owned(),
        role,
        check: ProbeCheck {
            kind: "tcp".into(),
            params: [("address".to_owned(), "web:80".into())].into_iter().collect(),
        },
        from,
        every_ms: 1_000,
        timeout_ms: 500,
        tolerate: Tolerance::Count(0),
        breaks: 3,
    }
}

pub fn fault(at: usize, hosts: &[&str], duration_ms: u64) -> PlannedStep {
    let step = FaultStep {
        fault: FaultKind::parse("cpu.burn").unwrap(),
        params: serde_json::json!({}),
        duration_ms,
        reversal: Reversal::Full,
        injections: hosts.iter().map(|name| PlannedInjection { host: host(name), seed: 1 }).collect(),
        matched: u32::try_from(hosts.len()).unwrap(),
        among: vec![],
        on_failure: OnFailure::Stop,
    };
    PlannedStep {
        path: format!("steps[{at}]"),
        body: StepBody::Fault(step),
    }
}

pub fn wait(at: usize, ms: u64) -> PlannedStep {
    PlannedStep {
        path: format!("steps[{at}]"),
        body: StepBody::Wait { ms },
    }
}

/// The steps of a branch, whose paths are made when it gets its place.
pub fn in_order(steps: Vec<PlannedStep>) -> PlannedStep {
    PlannedStep {
        path: String::new(),
        body: StepBody::Sequence(steps),
    }
}

/// Branches at the same time; their own paths are put below this one's.
pub fn parallel(at: usize, branches: Vec<PlannedStep>) -> PlannedStep {
    let path = format!("steps[{at}]");
    let branches = branches.into_iter().enumerate();
    let branches = branches
        .map(|(i, branch)| placed(branch, format!("{path}.parallel[{i}]")))
        .collect();
    PlannedStep {
        path,
        body: StepBody::Parallel(branches),
    }
}

fn placed(step: PlannedStep, path: String) -> PlannedStep {
    let body = match step.body {
        StepBody::Sequence(steps) => {
            let steps = steps.into_iter().enumerate();
            StepBody::Sequence(steps.map(|(i, step)| placed(step, format!("{path}.steps[{i}]"))).collect())
        }
        body => body,
    };
    PlannedStep { path, body }
}

/// The same step, which does not stop the run when a host fails.
pub fn going_on(mut step: PlannedStep) -> PlannedStep {
    if let StepBody::Fault(fault) = &mut step.body {
        fault.on_failure = OnFailure::Continue;
    }
    step
}

/// Over these hosts and steps, with one probe and one guard from the controller.
pub fn experiment(hosts: &[&str], steps: Vec<PlannedStep>) -> Plan {
    let planned = |name: &&str| PlannedHost {
        name: host(name),
        boot_id: "b".into(),
        catalogue_digest: "c".into(),
        labels: Default::default(),
        source_address: None,
    };
    Plan {
        name: "trial".into(),
        origin: Origin::Experiment,
        service: None,
        environment: "staging".into(),
        hypothesis: Some(Hypothesis {
            says: "it answers".into(),
            before_ms: 5_000,
            after_ms: 20_000,
            probes: vec![probe(PROBE, ProbeRole::Hypothesis, Prober::Controller)],
        }),
        guards: vec![probe(GUARD, ProbeRole::Guard, Prober::Controller)],
        limits: Limits::default(),
        steps,
        hosts: hosts.iter().map(planned).collect(),
        seed: 7,
        notes: vec![],
        source: String::new(),
        variables: Default::default(),
        production: false,
    }
}

pub fn attack(hosts: &[&str], duration_ms: u64) -> Plan {
    Plan {
        hypothesis: None,
        guards: vec![],
        origin: Origin::Attack,
        ..experiment(hosts, vec![fault(0, hosts, duration_ms)])
    }
}
