//! From events to the published document `Run`.

use std::collections::BTreeSet;

use proto_model::document::{EffectDocument, InjectionDocument, PlanRef, ProbePhaseDocument, RunDocument, RunHostDocument, StepDocument};
use proto_model::event::{Event, EventBody, RunPhase, StepOutcome};
use proto_model::host::ENV_LABEL;
use proto_model::id::HostName;
use proto_model::injection::{Cleanliness, EndedBy, InjectionState};
use proto_model::plan::{PlannedStep, StepBody};
use proto_model::probe::Phase;
use proto_model::quantity::Millis;
use proto_model::verdict::Cleanup;

use crate::history::{History, InjectionHistory};
use crate::samples::{Standing, standing, tally};

/// `None` when the events do not begin with `run.accepted`.
pub fn fold(events: &[Event]) -> Option<RunDocument> {
    let history = History::of(events)?;
    let first = events.first()?;
    let EventBody::RunAccepted { digest, .. } = &first.body else {
        return None;
    };
    let judged = events.iter().find(|e| matches!(e.body, EventBody::RunJudged { .. }));
    let mut document = RunDocument {
        id: first.run_id.clone(),
        name: history.plan.name.clone(),
        origin: history.plan.origin,
        service: history.plan.service.clone(),
        environment: history.plan.environment.clone(),
        state: history.phase,
        verdict: None,
        exit_code: None,
        ended_by: None,
        cleanup: Cleanup::Pending,
        reasons: Vec::new(),
        plan: PlanRef {
            digest: digest.to_string(),
            seed: history.plan.seed,
        },
        by: first.by.clone(),
        created_at: first.at,
        started_at: events
            .iter()
            .find(|e| {
                matches!(
                    e.body,
                    EventBody::RunPhase {
                        to: RunPhase::Preflight,
                        ..
                    }
                )
            })
            .map(|e| e.at),
        finished_at: judged.map(|e| e.at),
        steps: history.plan.all_steps().into_iter().map(|step| step_of(&history, step)).collect(),
        injections: history.injections.iter().map(injection_of).collect(),
        hosts: hosts_of(&history),
        probes: probes_of(&history),
        detection_ms: None,
        recovery_ms: None,
    };
    if let Some(EventBody::RunJudged {
        verdict,
        cleanup,
        exit_code,
        ended_by,
        reasons,
        detection_ms,
        recovery_ms,
        ..
    }) = judged.map(|e| &e.body)
    {
        document.verdict = Some(*verdict);
        document.cleanup = history.amended.unwrap_or(*cleanup);
        document.exit_code = Some(*exit_code);
        document.ended_by = Some(*ended_by);
        document.reasons.clone_from(reasons);
        (document.detection_ms, document.recovery_ms) = (*detection_ms, *recovery_ms);
    }
    Some(document)
}

fn step_of(history: &History, step: &PlannedStep) -> StepDocument {
    StepDocument {
        path: step.path.clone(),
        title: title(step),
        state: state_of(history, step).to_owned(),
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

fn state_of(history: &History, step: &PlannedStep) -> &'static str {
    let over = matches!(history.phase, RunPhase::Verifying | RunPhase::Finished);
    match history.steps.get(&step.path) {
        None if over || history.stop.is_some() => "skipped",
        None => "pending",
        Some(Some(StepOutcome::Done)) => "done",
        Some(Some(StepOutcome::Failed)) => "failed",
        Some(Some(StepOutcome::Cancelled)) => "cancelled",
        Some(Some(StepOutcome::Skipped)) => "skipped",
        Some(None) if !step.children().is_empty() => worst_child(history, step),
        Some(None) => going(history, &step.path),
    }
}

/// From good to bad, as a step that goes on takes it over from the steps below it.
const STATES: [&str; 8] = ["done", "skipped", "pending", "holding", "starting", "ending", "cancelled", "failed"];

fn worst_child(history: &History, step: &PlannedStep) -> &'static str {
    let states = step.children().iter().map(|child| state_of(history, child));
    let rank = |state: &&str| STATES.iter().position(|known| known == state);
    match states.max_by_key(rank) {
        // Between two of its steps.
        None | Some("done" | "pending" | "skipped") => "holding",
        Some(state) => state,
    }
}

fn going(history: &History, path: &str) -> &'static str {
    let of_step = || history.injections.iter().filter(|i| i.injection.step == path);
    if of_step().any(|i| i.state == InjectionState::Ordered) {
        "starting"
    } else if of_step().any(|i| matches!(i.state, InjectionState::Undoing | InjectionState::UndoFailed)) {
        "ending"
    } else {
        "holding"
    }
}

fn injection_of(history: &InjectionHistory) -> InjectionDocument {
    let window = history.telling_window();
    InjectionDocument {
        id: history.injection.id.clone(),
        step: history.injection.step.clone(),
        host: history.injection.host.clone(),
        fault: history.injection.fault.clone(),
        params: history.injection.params.clone(),
        state: history.state,
        ordered_at: history.ordered_at,
        applied_at: history.applied_at,
        ended_at: history.ended_at,
        ended_by: history.ended_by,
        undo_ms: history.undone.as_ref().map(|u| u.undo_ms),
        effect: EffectDocument {
            state: history.effect(),
            asked: window.and_then(|w| w.observation.asked),
            measured: window.and_then(|w| w.observation.measured),
            unit: window.map(|w| w.observation.unit.clone()),
            noop: history.is_noop(),
            note: window.and_then(|w| w.observation.note.clone()),
        },
        error: error_of(history),
    }
}

/// Why it was not carried out as planned; an ordinary end has no error.
fn error_of(history: &InjectionHistory) -> Option<String> {
    if let Some(refusal) = &history.refusal {
        return Some(refusal.to_string());
    }
    if history.state == InjectionState::UndoFailed {
        return history.undo_error.clone();
    }
    match history.ended_by {
        Some(EndedBy::ApplyFailed | EndedBy::EndedEarly) => history.reason.clone(),
        _ => None,
    }
}

/// Every host of the plan, and every other that was asked for its proof.
fn hosts_of(history: &History) -> Vec<RunHostDocument> {
    let planned = history.plan.hosts.iter().map(|h| &h.name);
    let names: BTreeSet<&HostName> = planned.chain(history.proofs.keys()).collect();
    names.into_iter().map(|name| host_of(history, name)).collect()
}

fn host_of(history: &History, name: &HostName) -> RunHostDocument {
    let proof = history.proofs.get(name);
    let spent = history.injections.iter().filter(|i| &i.injection.host == name);
    let mut told: Vec<String> = Vec::new();
    for line in spent
        .flat_map(|i| &i.consequences)
        .chain(proof.iter().flat_map(|p| &p.consequences))
    {
        if !told.contains(line) {
            told.push(line.clone());
        }
    }
    let planned = history.plan.hosts.iter().find(|h| &h.name == name);
    RunHostDocument {
        name: name.clone(),
        environment: planned.and_then(|h| h.labels.get(ENV_LABEL)).cloned(),
        cleanliness: proof.map_or_else(|| unproven_yet(history, name), |p| p.result),
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
fn unproven_yet(history: &History, name: &HostName) -> Cleanliness {
    let acts = |i: &InjectionHistory| &i.injection.host == name && i.ordered_at.is_some() && !i.state.is_terminal();
    if !history.touched(name) {
        Cleanliness::Clean
    } else if history.injections.iter().any(acts) {
        Cleanliness::Faulted
    } else {
        Cleanliness::Unproven
    }
}

fn probes_of(history: &History) -> Vec<ProbePhaseDocument> {
    let mut rows = Vec::new();
    for probe in history.plan.hypothesis.iter().flat_map(|h| &h.probes) {
        for phase in [Phase::Before, Phase::During, Phase::After] {
            let tally = tally(history, &probe.name, phase);
            if tally.samples == 0 {
                continue;
            }
            let held = match standing(history, probe, phase) {
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
