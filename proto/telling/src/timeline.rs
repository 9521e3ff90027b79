//! A run's events as lines for people: pure, from events to text; repeats that say nothing new are left out.

use std::collections::BTreeMap;

use proto_model::event::{Event, EventBody, StepOutcome, StopCause};
use proto_model::id::{HostName, InjectionId};
use proto_model::injection::{Applied, CleanProof, EffectState, Ending, Injection, Observed, UndoFailed, Undone};
use proto_model::plan::{Plan, PlannedStep, StepBody};
use proto_model::probe::{Phase, Sample, SampleResult, SampledBy};
use proto_model::problem::Refusal;
use proto_model::quantity::Millis;
use proto_model::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::figures::{figure, stretch};
use crate::typed::what;

/// What was said already.
#[derive(Debug, Default)]
pub struct Timeline {
    start: Option<Timestamp>,
    injections: BTreeMap<InjectionId, String>,
    steps: BTreeMap<String, String>,
    effects: BTreeMap<InjectionId, EffectState>,
    samples: BTreeMap<(String, SampledBy), (Phase, SampleResult)>,
}

impl Timeline {
    /// The lines of an event as a document; of a newer controller's event, its name.
    pub fn of_document(&mut self, document: &Value) -> Vec<String> {
        match Event::deserialize(document) {
            Ok(event) => self.lines(&event),
            Err(_) => vec![format!(
                "{:>7}  {}",
                "",
                document["type"].as_str().unwrap_or("an event without a type")
            )],
        }
    }

    /// The lines of one event, each behind its time since the run's start.
    fn lines(&mut self, event: &Event) -> Vec<String> {
        let start = *self.start.get_or_insert(event.at);
        let ms = event.at.since(start);
        let clock = format!("+{}.{}s", ms / 1_000, ms % 1_000 / 100);
        self.told(event).into_iter().map(|text| format!("{clock:>7}  {text}")).collect()
    }

    /// What one event says; nothing when it only repeats. Every event by name, so that a new one has its words before it compiles.
    pub fn told(&mut self, event: &Event) -> Vec<String> {
        let by = &event.by;
        let line = match &event.body {
            EventBody::RunAccepted { plan, injections, .. } => return self.accepted(event, plan, injections),
            EventBody::HostPreflight {
                host,
                accepted,
                refusals,
                warnings,
                ..
            } => return preflight(host, *accepted, refusals, warnings),
            EventBody::ProbeSampled { phase, sample, .. } => return self.sampled(*phase, sample).into_iter().collect(),
            EventBody::InjectionObserved { id, observed } => return self.observed(id, observed).into_iter().collect(),
            EventBody::RunPhase { to, .. } => format!("phase {}", to.as_str()),
            EventBody::GuardBroken {
                guard,
                consecutive,
                last_error,
                phase: _,
            } => format!("guard {guard} broke, {consecutive} in a row{}", because(last_error.as_deref())),
            EventBody::StepStarted { path, .. } => format!("{path} starts: {}", self.steps.get(path).map_or("", String::as_str)),
            EventBody::StepEnded { path, outcome } => format!("{path} {}", outcome_word(*outcome)),
            EventBody::InjectionOrdered {
                id, duration_ms, lease_ms, ..
            } => format!("{} {}", self.name(id), ordered(*duration_ms, *lease_ms)),
            EventBody::InjectionWithdrawn { id, reason } => format!("{} withdrawn: {reason}", self.name(id)),
            EventBody::InjectionRefused { id, refusal } => format!("{} refused: {}: {refusal}", self.name(id), refusal.code),
            EventBody::InjectionApplied { id, applied } => format!("{} {}", self.name(id), holds(applied)),
            EventBody::InjectionEnding { id, ending } => format!("{} {}", self.name(id), ends(ending)),
            EventBody::InjectionUndone { id, undone } => format!("{} {}", self.name(id), undo(undone)),
            EventBody::InjectionUndoFailed { id, failed } => format!("{} {}", self.name(id), not_undone(failed)),
            EventBody::InjectionSpent { id, spent } => {
                format!("{} is done and cannot be undone: {}", self.name(id), spent.consequences.join("; "))
            }
            EventBody::ReportsDropped { id, host, reports, bytes } => {
                format!(
                    "{}: {reports} reports of {host} ({bytes} bytes) were over the quota and left out",
                    self.name(id)
                )
            }
            EventBody::LeaseLapsed { host, injections } => {
                format!("{host} lost its lease on {} injections; it undoes them by itself", injections.len())
            }
            EventBody::HostLost { host, injections, .. } => format!("{host} is lost, holding {} injections", injections.len()),
            EventBody::HostReturned {
                host,
                rebooted,
                downtime_ms,
                ..
            } => returned(host, *rebooted, *downtime_ms),
            EventBody::StopRequested { cause, reason, .. } => format!("stop requested by {by} ({}): {reason}", cause_word(*cause)),
            EventBody::HostVerified { host, proof } => verified(host, proof),
            EventBody::ControllerRestarted { down_ms } => format!("the controller restarted after {}", stretch(*down_ms)),
            EventBody::HypothesisRecovered { probe, recovery_ms } => format!("probe {probe} recovered in {}", stretch(*recovery_ms)),
            EventBody::RunJudged { verdict, cleanup, .. } => format!("judged {}, cleanup {}", verdict.as_str(), cleanup.as_str()),
            EventBody::RunAmended { cleanup, hosts, cause } => format!("cleanup is now {}: {} ({cause})", cleanup.as_str(), names(hosts)),
            EventBody::NoteAdded { text } => format!("note by {by}: {text}"),
        };
        vec![line]
    }

    fn accepted(&mut self, event: &Event, plan: &Plan, injections: &[Injection]) -> Vec<String> {
        for injection in injections {
            let name = format!("{} on {}", injection.wish.fault, injection.host);
            self.injections.insert(injection.id.clone(), name);
        }
        let steps = plan.all_steps();
        self.steps = steps.into_iter().map(|step| (step.path.clone(), title(step))).collect();
        let count = injections.len();
        let many = if count == 1 { "injection" } else { "injections" };
        vec![format!(
            "run {} accepted: {} in {}, {count} {many}, seed {}",
            event.run_id, plan.name, plan.environment, plan.seed
        )]
    }

    fn sampled(&mut self, phase: Phase, sample: &Sample) -> Option<String> {
        let key = (sample.probe.clone(), sample.prober.clone());
        let news = self.samples.insert(key, (phase, sample.result)) != Some((phase, sample.result));
        let result = match sample.result {
            SampleResult::Good => "good",
            SampleResult::Bad => "bad",
            SampleResult::Missing => "missing",
        };
        let why = because(sample.error.as_deref());
        let took = stretch(sample.took_ms);
        news.then(|| format!("probe {} {result} after {took}, from {}{why}", sample.probe, sample.prober))
    }

    fn observed(&mut self, id: &InjectionId, observed: &Observed) -> Option<String> {
        let state = observed.observation.state;
        let news = self.effects.insert(id.clone(), state) != Some(state);
        let text = measured(&observed.observation);
        news.then(|| format!("{} {text}", self.name(id)))
    }

    /// Before `run.accepted` was seen, the id is all there is.
    fn name(&self, id: &InjectionId) -> String {
        self.injections.get(id).cloned().unwrap_or_else(|| format!("injection {id}"))
    }
}

fn because(error: Option<&str>) -> String {
    error.map(|error| format!(": {error}")).unwrap_or_default()
}

fn ordered(duration_ms: u64, lease_ms: u64) -> String {
    format!("ordered for {}, lease {}", Millis(duration_ms), Millis(lease_ms))
}

fn ends(ending: &Ending) -> String {
    let cause = ending.ended_by.as_str().replace('_', " ");
    format!("ends, {cause}{}", because(ending.reason.as_deref()))
}

fn not_undone(failed: &UndoFailed) -> String {
    format!("is not undone yet, attempt {}: {}: {}", failed.attempt, failed.undo, failed.error)
}

fn returned(host: &HostName, rebooted: bool, downtime_ms: u64) -> String {
    let how = if rebooted { "rebooted" } else { "without a reboot" };
    format!("{host} is back after {}, {how}", stretch(downtime_ms))
}

fn title(step: &PlannedStep) -> String {
    match &step.body {
        StepBody::Wait { ms } => format!("wait {}", Millis(*ms)),
        StepBody::Parallel(branches) => format!("{} branches at the same time", branches.len()),
        StepBody::Sequence(steps) => format!("{} in order", steps.len()),
        StepBody::Fault(fault) => {
            let hosts: Vec<&HostName> = fault.injections.iter().map(|injection| &injection.host).collect();
            format!("{} on {} for {}", what(fault), names(hosts), Millis(fault.duration_ms))
        }
    }
}

fn preflight(host: &HostName, accepted: bool, refusals: &[Refusal], warnings: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = refusals
        .iter()
        .map(|refusal| format!("{host} refuses: {}: {refusal}", refusal.code))
        .collect();
    if accepted {
        lines.push(format!("{host} accepts"));
    } else if refusals.is_empty() {
        lines.push(format!("{host} refuses"));
    }
    lines.extend(warnings.iter().map(|warning| format!("{host} warns: {warning}")));
    lines
}

/// `asked 60 percent, measured 59.4: confirmed`
fn measured(observation: &proto_model::injection::Observation) -> String {
    effect_text(
        observation.asked,
        observation.measured,
        &observation.unit,
        observation.state,
        observation.note.as_deref(),
    )
}

pub fn effect_text(asked: Option<f64>, measured: Option<f64>, unit: &str, state: EffectState, note: Option<&str>) -> String {
    let mut parts = Vec::new();
    if let Some(asked) = asked {
        parts.push(format!("asked {} {unit}", figure(asked)).trim_end().to_owned());
    }
    match measured {
        Some(measured) if asked.is_some() => parts.push(format!("measured {}", figure(measured))),
        Some(measured) => parts.push(format!("measured {} {unit}", figure(measured)).trim_end().to_owned()),
        None => {}
    }
    let colon = if parts.is_empty() { "" } else { ": " };
    let note = note.map(|note| format!(" ({note})")).unwrap_or_default();
    format!("{}{colon}{}{note}", parts.join(", "), state.as_str())
}

fn holds(applied: &Applied) -> String {
    if applied.noop {
        return "was past its target already: nothing was done".to_owned();
    }
    let engine = applied.engine.as_ref().map(|engine| format!(" by {engine}")).unwrap_or_default();
    format!("acts, applied in {}{engine}", stretch(applied.apply_ms))
}

fn undo(undone: &Undone) -> String {
    let drift = if undone.drift.is_empty() {
        String::new()
    } else {
        format!("; changed by others: {}", undone.drift.join("; "))
    };
    let ended = undone.ended_by.as_str().replace('_', " ");
    format!("undone in {} by {} ({ended}){drift}", stretch(undone.undo_ms), undone.undone_by)
}

fn verified(host: &HostName, proof: &CleanProof) -> String {
    let left: Vec<&str> = proof.owned_left.iter().chain(&proof.not_restored).map(String::as_str).collect();
    if left.is_empty() {
        format!("{host} is {}", clean_word(proof))
    } else {
        format!("{host} is dirty: {}", left.join("; "))
    }
}

fn clean_word(proof: &CleanProof) -> &'static str {
    use proto_model::injection::Cleanliness::{Clean, Dirty, Faulted, Unproven};
    match proof.result {
        Clean => "proven clean",
        Faulted => "still faulted",
        Unproven => "unproven: it could not be asked",
        Dirty => "dirty",
    }
}

fn outcome_word(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Done => "done",
        StepOutcome::Failed => "failed",
        StepOutcome::Cancelled => "cancelled",
        StepOutcome::Skipped => "skipped",
    }
}

fn cause_word(cause: StopCause) -> &'static str {
    match cause {
        StopCause::Operator => "operator",
        StopCause::Halt => "halt",
        StopCause::Guard => "guard",
        StopCause::Limit => "limit",
        StopCause::HostLost => "host lost",
        StopCause::Failure => "failure",
        StopCause::Baseline => "baseline not steady",
        StopCause::ControllerRestart => "controller restart",
    }
}

fn names<'a>(hosts: impl IntoIterator<Item = &'a HostName>) -> String {
    hosts.into_iter().map(HostName::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RUN: &str = "0123456789abcdef";
    const ID: &str = "aaaaaaaaaaaaaaaa";

    fn event(seconds: u32, body: Value) -> Event {
        let mut value =
            json!({"run_id": RUN, "seq": 1, "version": 1, "at": format!("2026-01-01T00:00:{seconds:02}.500Z"), "by": "root@local"});
        value.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn accepted() -> Event {
        let fault = json!({"fault": "cpu.burn", "params": {"percent": 60}, "duration_ms": 20_000, "reversal": {"kind": "full"},
            "injections": [{"host": "web", "seed": 1}], "matched": 1});
        event(
            0,
            json!({"type": "run.accepted", "digest": "sha256:00", "idempotency_key": null, "halt_epoch": 0,
                "plan": {"name": "burn", "origin": "attack", "service": null, "environment": "staging", "hypothesis": null, "guards": [],
                    "limits": {}, "steps": [{"path": "steps[0]", "body": {"fault": fault}}], "hosts": [], "seed": 7, "notes": [], "source": ""},
                "injections": [{"id": ID, "step": "steps[0]", "host": "web", "fault": "cpu.burn", "params": {}, "duration_ms": 20_000, "seed": 1}]}),
        )
    }

    fn told(events: &[Event]) -> Vec<String> {
        let mut timeline = Timeline::default();
        events.iter().flat_map(|event| timeline.lines(event)).collect()
    }

    #[test]
    fn an_injection_is_named_by_its_fault_and_host() {
        let lines = told(&[
            accepted(),
            event(
                1,
                json!({"type": "step.started", "path": "steps[0]", "planned_at": "2026-01-01T00:00:01.000Z"}),
            ),
            event(
                1,
                json!({"type": "injection.applied", "id": ID, "effect": {}, "engine": null, "apply_ms": 12, "deadline_boot_ms": 1, "noop": false}),
            ),
            event(
                6,
                json!({"type": "injection.observed", "id": ID, "window": 1, "window_ms": 5000, "asked": 60.0, "measured": 59.44,
                "unit": "percent", "state": "confirmed", "note": null}),
            ),
            event(
                21,
                json!({"type": "injection.undone", "id": ID, "ended_by": "duration_elapsed", "undone_by": "agent", "undo_ms": 41,
                "answer": "undone_now", "drift": []}),
            ),
        ]);
        assert_eq!(
            lines,
            [
                "  +0.0s  run 0123456789abcdef accepted: burn in staging, 1 injection, seed 7",
                "  +1.0s  steps[0] starts: cpu.burn percent=60 on web for 20s",
                "  +1.0s  cpu.burn on web acts, applied in 12 ms",
                "  +6.0s  cpu.burn on web asked 60 percent, measured 59.4: confirmed",
                " +21.0s  cpu.burn on web undone in 41 ms by agent (duration elapsed)",
            ]
        );
    }

    #[test]
    fn samples_are_told_when_they_change() {
        let sample = |seconds, phase: &str, result: &str, error: Value| {
            event(
                seconds,
                json!({"type": "probe.sampled", "role": "hypothesis", "phase": phase, "probe": "answers", "prober": "controller",
                    "started_at": "2026-01-01T00:00:00.000Z", "took_ms": 12, "result": result, "value": null, "unit": null, "error": error}),
            )
        };
        let lines = told(&[
            sample(1, "before", "good", Value::Null),
            sample(2, "before", "good", Value::Null),
            sample(3, "during", "good", Value::Null),
            sample(4, "during", "bad", json!("connection refused")),
            sample(5, "during", "bad", json!("connection refused")),
        ]);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(
            lines[2],
            "  +3.0s  probe answers bad after 12 ms, from the controller: connection refused"
        );
    }

    #[test]
    fn every_refusal_and_every_leftover_is_told() {
        let refusals = json!([{"code": "policy", "path": "params.percent", "message": "too much", "allowed": "1..50"}]);
        let lines = told(&[
            event(
                0,
                json!({"type": "host.preflight", "host": "web", "accepted": false, "refusals": refusals, "warnings": ["no swap"],
                "boot_id": "", "agent_version": "", "kernel": "", "catalogue_digest": ""}),
            ),
            event(
                1,
                json!({"type": "host.verified", "host": "web", "result": "dirty", "owned_left": ["group fracas-a"], "not_restored": [],
                "drift": [], "consequences": [], "boot_id": "", "digest": ""}),
            ),
        ]);
        assert_eq!(
            lines,
            [
                "  +0.0s  web refuses: policy: too much (allowed: 1..50)",
                "  +0.0s  web warns: no swap",
                "  +1.0s  web is dirty: group fracas-a",
            ]
        );
    }
}
