//! One rule for three questions: what planning denies is never admitted, and what is not admitted never starts.

mod fleet;

use controller_policy::{ActiveRun, Denial, Stage};
use fleet::{Trial, plan};
use proptest::prelude::*;
use proto_model::host::{Availability, Connection, Membership};
use proto_model::id::RunId;
use proto_model::injection::Cleanliness;
use proto_model::plan::{Limits, OnFailure, Origin, Plan, StepBody};

fn attack(hosts: &[usize]) -> Plan {
    plan(Origin::Attack, &[hosts.to_vec()], Limits::default())
}

#[track_caller]
fn denied<T: std::fmt::Debug>(answer: Result<T, Denial>, rule: &str, words: &[&str]) {
    let denial = answer.unwrap_err();
    assert_eq!(denial.rule, rule, "{denial}");
    for word in words {
        assert!(denial.to_string().contains(word), "{word:?} is not in {denial}");
    }
}

#[test]
fn a_step_counts_over_all_runs_and_again_when_one_has_ended() {
    let mut trial = Trial::new("[policy.staging]\nmax_faulted_hosts = 2");
    let (first, second) = (attack(&[1]), attack(&[2]));
    let run = trial.admit(&first).unwrap();
    trial.admit(&second).unwrap();
    trial
        .ask(
            &first,
            Stage::Step {
                run: &run,
                path: "steps[0]",
            },
        )
        .unwrap();
    let third = attack(&[3]);
    denied(
        trial.admit(&third),
        "policy.staging.max_faulted_hosts",
        &["injects 1 host, and 2 of staging", "..2"],
    );
    trial.admit(&attack(&[1])).unwrap();
    trial.runs.retain(|active| active.id != run);
    trial.runs.pop();
    trial.admit(&third).unwrap();
    // A host under an injection that no run answers for came meanwhile.
    trial.host(6).active_injections = 1;
    let run = trial.runs[1].id.clone();
    let step = Stage::Step {
        run: &run,
        path: "steps[0]",
    };
    denied(trial.ask(&third, step), "policy.staging.max_faulted_hosts", &["and 2 of staging"]);
}

#[test]
fn the_share_of_a_service_is_counted_over_all_runs() {
    let mut trial = Trial::new("[policy.staging]\nmax_faulted_share_per_service = 50");
    trial.admit(&attack(&[1, 2])).unwrap();
    trial.admit(&attack(&[2, 3])).unwrap();
    denied(
        trial.admit(&attack(&[4])),
        "policy.staging.max_faulted_share_per_service",
        &["4 of 6 hosts of service shop", "..50%"],
    );
}

#[test]
fn the_experiments_own_limits_hold_as_its_step_starts() {
    let limits = |hosts, share_percent, keep_healthy| Limits {
        hosts,
        share_percent,
        keep_healthy,
        ..Limits::default()
    };
    let of = |limits| plan(Origin::Experiment, &[vec![1, 2]], limits);
    let mut trial = Trial::new("");
    denied(trial.admit(&of(limits(Some(1), None, None))), "limits.hosts", &["2 hosts", "..1"]);
    denied(
        trial.admit(&of(limits(None, Some(30.0), None))),
        "limits.share",
        &["2 of 6 hosts that match, 33%"],
    );
    let keeps = of(limits(None, None, Some(3)));
    let run = trial.admit(&keeps).unwrap();
    let step = Stage::Step {
        run: &run,
        path: "steps[0]",
    };
    trial.ask(&keeps, step).unwrap();
    trial.admit(&attack(&[3])).unwrap();
    trial.ask(&keeps, step).unwrap();
    trial.host(4).connection = Connection::Lost;
    denied(trial.ask(&keeps, step), "limits.keep_healthy", &["leaves 2 of 6 hosts", "3.."]);
}

#[test]
fn a_host_that_is_cordoned_meanwhile_is_not_injected() {
    let mut trial = Trial::new("");
    let experiment = plan(Origin::Experiment, &[vec![1], vec![2]], Limits::default());
    let run = trial.admit(&experiment).unwrap();
    trial.host(2).availability = Availability::Cordoned;
    trial
        .ask(
            &experiment,
            Stage::Step {
                run: &run,
                path: "steps[0]",
            },
        )
        .unwrap();
    let second = Stage::Step {
        run: &run,
        path: "steps[1]",
    };
    denied(trial.ask(&experiment, second), "hosts", &["web-2 is cordoned"]);
    trial.host(2).availability = Availability::Open;
    trial.host(2).connection = Connection::Lost;
    denied(trial.ask(&experiment, second), "hosts", &["web-2 is not connected"]);
    let goes_on = with_on_failure(experiment, OnFailure::Continue);
    trial.ask(&goes_on, second).unwrap();
    denied(trial.ask(&goes_on, Stage::Planning), "hosts", &["web-2 is under run"]);
}

fn with_on_failure(mut plan: Plan, on_failure: OnFailure) -> Plan {
    for step in &mut plan.steps {
        if let StepBody::Fault(fault) = &mut step.body {
            fault.on_failure = on_failure;
        }
    }
    plan
}

#[test]
fn a_hundred_runs_and_not_one_more() {
    let mut trial = Trial::new("");
    for _ in 0..100 {
        trial.admit(&attack(&[1])).unwrap();
    }
    denied(trial.admit(&attack(&[1])), "runs", &["100 runs are active", "..100"]);
    trial.ask(&attack(&[1]), Stage::Planning).unwrap();
}

fn some_hosts() -> impl Strategy<Value = Vec<usize>> {
    prop::sample::subsequence((1..=6).collect::<Vec<_>>(), 1..=4)
}

fn some_plan() -> impl Strategy<Value = Plan> {
    let origin = prop::sample::select(vec![Origin::Attack, Origin::Experiment]);
    let limits = (
        prop::option::of(1_u32..5),
        prop::option::of(10.0..100.0_f64),
        prop::option::of(0_u32..6),
    );
    let service = prop::option::weighted(0.3, Just("shop".to_owned()));
    (origin, prop::collection::vec(some_hosts(), 1..4), limits, service).prop_map(|(origin, steps, (hosts, share, keep), service)| {
        let limits = Limits {
            hosts,
            share_percent: share,
            keep_healthy: keep,
            ..Limits::default()
        };
        Plan {
            service,
            ..plan(origin, &steps, limits)
        }
    })
}

fn some_policy() -> impl Strategy<Value = String> {
    let numbers = (prop::option::of(1_u32..7), prop::option::of(20_u32..100), 1_u32..3);
    numbers.prop_map(|(hosts, share, runs)| {
        let hosts = hosts.map(|n| format!("max_faulted_hosts = {n}\n")).unwrap_or_default();
        let share = share.map(|n| format!("max_faulted_share_per_service = {n}\n")).unwrap_or_default();
        format!("[policy.staging]\nruns_per_service = {runs}\n{hosts}{share}")
    })
}

/// Hosts in some state, and runs beside.
fn some_occupancy() -> impl Strategy<Value = Trial> {
    let runs = prop::collection::vec(some_plan(), 0..4);
    let states = prop::collection::vec((1_usize..=6, 0_usize..8), 0..4);
    (some_policy(), runs, states).prop_map(|(policy, runs, states)| {
        let mut trial = Trial::new(&policy);
        trial.runs = runs.iter().map(|plan| ActiveRun::new(RunId::generate(), plan)).collect();
        for (n, state) in states {
            let host = trial.host(n);
            match state {
                0 => host.membership = Membership::Locked,
                1 => host.membership = Membership::Removed,
                2 => host.connection = Connection::Lost,
                3 => host.cleanliness = Cleanliness::Dirty,
                4 => host.cleanliness = Cleanliness::Unproven,
                5 => host.availability = Availability::Cordoned,
                6 => host.availability = Availability::Halted,
                _ => host.active_injections = 1,
            }
        }
        trial
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_stage_allows_what_the_one_before_it_denies(mut trial in some_occupancy(), plan in some_plan()) {
        let planned = trial.ask(&plan, Stage::Planning);
        let admitted = trial.ask(&plan, Stage::Admission);
        if let Err(denial) = &planned {
            prop_assert!(admitted.is_err(), "admitted in spite of {}", denial);
        }
        // The same occupancy, as the steps of the run meet it.
        let run = ActiveRun::new(RunId::generate(), &plan);
        let id = run.id.clone();
        trial.runs.push(run);
        let paths: Vec<&str> = plan.steps.iter().map(|step| step.path.as_str()).collect();
        let denied = paths.iter().any(|path| trial.ask(&plan, Stage::Step { run: &id, path }).is_err());
        if let Err(denial) = &admitted {
            // A host that shows an injection is the run's own as soon as the run is there.
            let own = trial.hosts.iter().any(|host| host.active_injections > 0 && trial.runs.last().unwrap().hosts.contains(&host.name));
            prop_assert!(denied || own, "every step starts in spite of {}", denial);
        }
    }
}
