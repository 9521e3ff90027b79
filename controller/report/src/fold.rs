//! From events to the published document `Run`.

use std::collections::BTreeMap;

use proto_model::document::{EffectDocument, InjectionDocument, PlanRef, ProbePhaseDocument, RunDocument, RunHostDocument, StepDocument};
use proto_model::event::{Event, RunPhase, StepOutcome};
use proto_model::host::ENV_LABEL;
use proto_model::id::HostName;
use proto_model::injection::{Cleanliness, EndedBy, InjectionState};
use proto_model::plan::{PlannedHost, PlannedStep, StepBody};
use proto_model::probe::Phase;
use proto_model::quantity::Millis;
use proto_model::verdict::Cleanup;

use crate::injection_status::InjectionStatus;
use crate::recovery::recovery;
use crate::samples::Standing;
use crate::standing::standing;
use crate::state::{RunState, StepStatus};

/// `None` when the events do not begin with `run.accepted`.
pub fn fold(events: &[Event]) -> Option<RunDocument> {
    RunState::of(events).map(|state| document(&state))
}

pub fn document(state: &RunState) -> RunDocument {
    let (plan, judged) = (&state.plan, state.judged.as_ref());
    RunDocument {
        id: state.run.clone(),
        name: plan.name.clone(),
        origin: plan.origin,
        service: plan.service.clone(),
        environment: plan.environment.clone(),
        production: plan.production,
        state: state.phase,
        verdict: judged.map(|judged| judged.verdict),
        exit_code: judged.map(|judged| judged.exit_code),
        ended_by: judged.map(|judged| judged.ended_by),
        cleanup: judged.map_or(Cleanup::Pending, |judged| state.amended.unwrap_or(judged.cleanup)),
        reasons: judged.map(|judged| judged.reasons.clone()).unwrap_or_default(),
        plan: PlanRef {
            digest: state.digest.to_string(),
            seed: plan.seed,
            experiment: plan.experiment_digest(),
            variables: plan.variables.clone(),
        },
        by: state.by.clone(),
        created_at: state.created_at,
        started_at: state.entered_at(RunPhase::Preflight),
        finished_at: judged.map(|judged| judged.at),
        steps: plan.all_steps().into_iter().map(|step| step_of(state, step)).collect(),
        injections: state.injections.iter().map(injection_of).collect(),
        hosts: hosts_of(state),
        probes: probes_of(state),
        detection_ms: judged.and_then(|judged| judged.detection_ms),
        recovery_ms: judged.and_then(|judged| judged.recovery_ms),
        recovery: recovery(state),
    }
}

fn step_of(state: &RunState, step: &PlannedStep) -> StepDocument {
    StepDocument {
        path: step.path.clone(),
        title: title(step),
        state: state_of(state, step).to_owned(),
    }
}

fn title(step: &PlannedStep) -> String {
    match &step.body {
        StepBody::Wait { ms } => format!("wait {}", Millis(*ms)),
        StepBody::Parallel(branches) => format!("{} branches at the same time", branches.len()),
        StepBody::Sequence(steps) => format!("{} in order", steps.len()),
        StepBody::Fault(fault) => {
            let hosts: Vec<&str> = fault.injections.iter().map(|i| i.host.as_str()).collect();
            format!("{} on {} for {}", fault.fault, hosts.join(", "), Millis(fault.duration_ms))
        }
    }
}

fn state_of(state: &RunState, step: &PlannedStep) -> &'static str {
    let over = matches!(state.phase, RunPhase::Verifying | RunPhase::Finished);
    match state.steps.get(&step.path).map(StepStatus::outcome) {
        None if over || state.stop.is_some() => "skipped",
        None => "pending",
        Some(Some(StepOutcome::Done)) => "done",
        Some(Some(StepOutcome::Failed)) => "failed",
        Some(Some(StepOutcome::Cancelled)) => "cancelled",
        Some(Some(StepOutcome::Skipped)) => "skipped",
        Some(None) if !step.children().is_empty() => worst_child(state, step),
        Some(None) => going(state, &step.path),
    }
}

/// From good to bad, as a step that goes on takes it over from the steps below it.
const STATES: [&str; 8] = ["done", "skipped", "pending", "holding", "starting", "ending", "cancelled", "failed"];

fn worst_child(state: &RunState, step: &PlannedStep) -> &'static str {
    let states = step.children().iter().map(|child| state_of(state, child));
    let rank = |state: &&str| STATES.iter().position(|known| known == state);
    match states.max_by_key(rank) {
        // Between two of its steps.
        None | Some("done" | "pending" | "skipped") => "holding",
        Some(state) => state,
    }
}

fn going(state: &RunState, path: &str) -> &'static str {
    let of_step = || state.injections.iter().filter(|i| i.injection.step == path);
    if of_step().any(|i| i.state == InjectionState::Ordered) {
        "starting"
    } else if of_step().any(|i| matches!(i.state, InjectionState::Undoing | InjectionState::UndoFailed)) {
        "ending"
    } else {
        "holding"
    }
}

fn injection_of(status: &InjectionStatus) -> InjectionDocument {
    let window = status.telling_window();
    InjectionDocument {
        id: status.injection.id.clone(),
        step: status.injection.step.clone(),
        host: status.injection.host.clone(),
        fault: status.injection.wish.fault.clone(),
        params: status.injection.wish.params.clone(),
        state: status.state,
        ordered_at: status.ordered_at,
        applied_at: status.applied_at,
        ended_at: status.ended_at,
        ended_by: status.ended_by,
        undo_ms: status.undone.as_ref().map(|u| u.undo_ms),
        effect: EffectDocument {
            state: status.effect(),
            asked: window.and_then(|w| w.observation.asked),
            measured: window.and_then(|w| w.observation.measured),
            unit: window.map(|w| w.observation.unit.clone()),
            noop: status.noop,
            note: window.and_then(|w| w.observation.note.clone()),
        },
        error: error_of(status),
    }
}

/// Why it was not carried out as planned; an ordinary end has no error.
fn error_of(status: &InjectionStatus) -> Option<String> {
    if let Some(refusal) = &status.refusal {
        return Some(refusal.to_string());
    }
    if status.state == InjectionState::UndoFailed {
        return status.undo_error.clone();
    }
    match status.ended_by {
        Some(EndedBy::ApplyFailed | EndedBy::EndedEarly) => status.reason.clone(),
        _ => None,
    }
}

/// Every host of the plan, and every other that was asked for its proof.
fn hosts_of(state: &RunState) -> Vec<RunHostDocument> {
    let mut hosts: BTreeMap<&HostName, Option<&PlannedHost>> = state.proofs.keys().map(|name| (name, None)).collect();
    hosts.extend(state.plan.hosts.iter().map(|host| (&host.name, Some(host))));
    hosts.into_iter().map(|(name, planned)| host_of(state, name, planned)).collect()
}

fn host_of(state: &RunState, name: &HostName, planned: Option<&PlannedHost>) -> RunHostDocument {
    let proof = state.proof(name);
    let spent = state.injections_on(name);
    let mut told: Vec<String> = Vec::new();
    for line in spent
        .flat_map(|i| &i.consequences)
        .chain(proof.iter().flat_map(|p| &p.consequences))
    {
        if !told.contains(line) {
            told.push(line.clone());
        }
    }
    RunHostDocument {
        name: name.clone(),
        environment: planned.and_then(|h| h.labels.get(ENV_LABEL)).cloned(),
        cleanliness: proof.map_or_else(|| unproven_yet(state, name), |p| p.result),
        residue: proof
            .iter()
            .flat_map(|p| p.owned_left.iter().chain(&p.not_restored))
            .cloned()
            .collect(),
        drift: proof.map(|p| p.drift.clone()).unwrap_or_default(),
        consequences: told,
    }
}

/// Before its proof: clean when nothing was ever ordered there, faulted while something acts, else unproven.
fn unproven_yet(state: &RunState, name: &HostName) -> Cleanliness {
    if !state.touched(name) {
        Cleanliness::Clean
    } else if state.injections_on(name).any(InjectionStatus::is_out) {
        Cleanliness::Faulted
    } else {
        Cleanliness::Unproven
    }
}

fn probes_of(state: &RunState) -> Vec<ProbePhaseDocument> {
    let mut rows = Vec::new();
    for probe in state.plan.hypothesis.iter().flat_map(|h| &h.probes) {
        for phase in [Phase::Before, Phase::During, Phase::After] {
            let tally = state.samples.tally(&probe.name, phase);
            if tally.samples == 0 {
                continue;
            }
            let held = match standing(state, probe, phase) {
                Standing::Held => Some(true),
                Standing::Broke => Some(false),
                Standing::Unknown => None,
            };
            rows.push(ProbePhaseDocument {
                name: probe.name.clone(),
                phase,
                samples: tally.samples,
                bad: tally.bad,
                missing: tally.missing,
                held,
            });
        }
    }
    rows
}
