//! The report as JUnit XML: the run is the suite; the verdict, each step, each probe's phase and each undo is a case.
//! Only a pass has no failure and no error in it.

use proto_model::document::{
    InjectionDocument, ProbePhaseDocument, RecoveryDocument, RecoveryState, RunDocument, RunHostDocument, StepDocument,
};
use proto_model::event::Event;
use proto_model::injection::{Cleanliness, InjectionState};
use proto_model::probe::Phase;
use proto_model::verdict::Verdict;
use proto_telling::junit::{Case, Outcome, Suite, Trouble};
use proto_telling::recovery_text;

use crate::fold::document;
use crate::state::{GuardBreak, RunState};

/// Empty when the events do not tell of a run.
pub fn junit(events: &[Event]) -> String {
    RunState::of(events).map(|state| suite(&state).xml()).unwrap_or_default()
}

fn suite(state: &RunState) -> Suite {
    let run = &document(state);
    let mut cases = vec![verdict(run)];
    cases.extend(run.steps.iter().map(|of| step(of, took(state, &of.path))));
    cases.extend(run.probes.iter().map(probe));
    cases.extend(state.guards_broken.iter().map(guard));
    cases.extend(run.recovery.iter().filter(|_| run.verdict != Some(Verdict::Passed)).map(recovery));
    cases.extend(run.injections.iter().map(undo));
    cases.extend(run.hosts.iter().map(|host| proof(run, host)));
    Suite {
        name: run.name.clone(),
        started_at: Some(run.created_at),
        took_ms: run.finished_at.map(|at| at.since(run.created_at)),
        properties: properties(run, state),
        cases,
    }
}

fn properties(run: &RunDocument, state: &RunState) -> Vec<(&'static str, String)> {
    let mut properties = vec![
        ("run", run.id.to_string()),
        ("verdict", run.verdict.map_or("none", Verdict::as_str).to_owned()),
        ("cleanup", run.cleanup.as_str().to_owned()),
        ("environment", run.environment.clone()),
        ("plan", run.plan.digest.clone()),
        ("seed", run.plan.seed.to_string()),
    ];
    properties.extend(run.service.clone().map(|service| ("service", service)));
    properties.extend(run.detection_ms.map(|ms| ("detection_ms", ms.to_string())));
    properties.extend(run.recovery.iter().map(|recovery| ("recovery", recovery_text(recovery))));
    properties.extend(run.recovery_ms.map(|ms| ("recovery_ms", ms.to_string())));
    for (host, asked) in &state.preflights {
        properties.push(("host", format!("{host}: agent {}, kernel {}", asked.agent_version, asked.kernel)));
    }
    properties
}

fn case(class: &'static str, name: impl Into<String>, took_ms: Option<u64>, outcome: Outcome) -> Case {
    Case {
        class,
        name: name.into(),
        took_ms,
        outcome,
    }
}

/// Whatever the other cases say, a run that did not pass is red here. It has the same name with every verdict, and where a run
/// never came to be: a pipeline knows a test by its name and compares it with the one before.
fn verdict(run: &RunDocument) -> Case {
    let told: Vec<String> = run
        .reasons
        .iter()
        .map(|reason| format!("{}: {}", reason.code, reason.message))
        .collect();
    let code = run.reasons.first().map_or("no_verdict", |reason| reason.code.as_str());
    let trouble = || Trouble::new(code, told.join("\n"));
    let outcome = match run.verdict {
        Some(Verdict::Passed) => Outcome::Passed,
        Some(Verdict::Failed) => Outcome::Failed(trouble()),
        Some(Verdict::Inconclusive | Verdict::Aborted | Verdict::Error) => Outcome::Error(trouble()),
        None => Outcome::Error(Trouble::new("not_finished", "the run has no verdict yet")),
    };
    let took = run.finished_at.map(|at| at.since(run.created_at));
    case("run", "run", took, outcome)
}

/// From a step's start to its end, when it has both.
fn took(state: &RunState, step: &str) -> Option<u64> {
    let status = state.steps.get(step)?;
    status.ended.map(|(_, at)| at.since(status.started_at))
}

fn step(step: &StepDocument, took_ms: Option<u64>) -> Case {
    let outcome = match step.state.as_str() {
        "done" => Outcome::Passed,
        "failed" => Outcome::Failed(Trouble::new("step_failed", "the step was not carried out as planned")),
        "skipped" | "cancelled" => Outcome::Skipped(format!("the step was {}", step.state)),
        other => Outcome::Error(Trouble::new("step_unfinished", format!("the step is {other}"))),
    };
    case("step", format!("{} {}", step.path, step.title), took_ms, outcome)
}

fn probe(probe: &ProbePhaseDocument) -> Case {
    let seen = format!("{} of {} samples bad, {} missing", probe.bad, probe.samples, probe.missing);
    let phase = word(probe.phase);
    let outcome = match (probe.held, probe.phase) {
        (Some(true), _) => Outcome::Passed,
        // Nothing was injected yet, so nothing was shown.
        (Some(false), Phase::Before) => Outcome::Error(Trouble::new("baseline_not_steady", seen)),
        (Some(false), Phase::During) => Outcome::Failed(Trouble::new("hypothesis_broke", seen)),
        (Some(false), Phase::After) => Outcome::Failed(Trouble::new("not_recovered", seen)),
        (None, _) => Outcome::Error(Trouble::new("too_few_samples", seen)),
    };
    case("probe", format!("{} {phase}", probe.name), None, outcome)
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Before => "before",
        Phase::During => "during",
        Phase::After => "after",
    }
}

fn guard(broken: &GuardBreak) -> Case {
    let why = broken.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let trouble = Trouble::new("guard_broke", format!("{} bad or missing in a row{why}", broken.consecutive));
    case("probe", format!("guard {}", broken.guard), None, Outcome::Failed(trouble))
}

/// Beside the verdict: a run that passed has shown it by its probes.
fn recovery(recovery: &RecoveryDocument) -> Case {
    let trouble = || Trouble::new("not_recovered", recovery_text(recovery));
    let outcome = match recovery.state {
        RecoveryState::Recovered => Outcome::Passed,
        RecoveryState::NotRecovered => Outcome::Failed(trouble()),
        RecoveryState::Pending => Outcome::Error(Trouble::new("not_finished", "the run still watches its probes")),
    };
    case("probe", "recovery", recovery.after_ms, outcome)
}

fn undo(injection: &InjectionDocument) -> Case {
    let outcome = match injection.state {
        InjectionState::Undone => Outcome::Passed,
        InjectionState::Spent => Outcome::Skipped("it cannot be undone, as its kind says".to_owned()),
        InjectionState::Planned | InjectionState::Withdrawn => Outcome::Skipped("it was never ordered".to_owned()),
        InjectionState::Refused => Outcome::Skipped("it was refused, and nothing was touched".to_owned()),
        InjectionState::UndoFailed => {
            let why = injection.error.clone().unwrap_or_else(|| "the host gave no reason".to_owned());
            Outcome::Failed(Trouble::new("undo_failed", why))
        }
        other => Outcome::Error(Trouble::new("not_undone", format!("the injection is {}", other.as_str()))),
    };
    let name = format!("{} {} on {}", injection.step, injection.fault, injection.host);
    case("undo", name, injection.undo_ms, outcome)
}

fn proof(run: &RunDocument, host: &RunHostDocument) -> Case {
    let touched = run.injections.iter().any(|i| i.host == host.name && i.ordered_at.is_some());
    let outcome = match host.cleanliness {
        Cleanliness::Clean if !touched => Outcome::Skipped("nothing was ordered there".to_owned()),
        Cleanliness::Clean => Outcome::Passed,
        Cleanliness::Dirty => Outcome::Failed(Trouble::new("host_dirty", host.residue.join("\n"))),
        Cleanliness::Faulted => Outcome::Error(Trouble::new("host_faulted", "an injection still acts there")),
        Cleanliness::Unproven => Outcome::Error(Trouble::new("cleanup_unproven", "the host could not be asked for its proof")),
    };
    case("undo", format!("{} is clean", host.name), None, outcome)
}
