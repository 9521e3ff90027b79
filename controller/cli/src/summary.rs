//! The last lines of a run and the exit code it earns: pure; a run that only happened is never a pass.

use proto_model::document::{InjectionDocument, RecoveryDocument, RunDocument, RunHostDocument};
use proto_model::event::RunPhase;
use proto_model::exit;
use proto_model::injection::{Cleanliness, InjectionState};
use proto_model::plan::Origin;
use proto_model::verdict::Verdict;
use proto_telling::{effect_text, recovery_text, stretch};

/// The judge's word for a run that asked nothing of the system.
const NO_HYPOTHESIS: &str = "no_hypothesis";

/// A line `label     word rest`, the word to be coloured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub label: &'static str,
    pub before: String,
    pub word: String,
}

fn line(label: &'static str, before: impl Into<String>, word: impl Into<String>) -> Line {
    Line {
        label,
        before: before.into(),
        word: word.into(),
    }
}

impl Line {
    pub fn text(&self, paint: impl Fn(&str) -> String) -> String {
        let space = if self.before.is_empty() { "" } else { " " };
        format!("{:<10}{}{space}{}", self.label, self.before, paint(&self.word))
    }
}

/// What is said of a finished run: whether the system recovered first, the verdict and each host's residue last.
pub fn lines(run: &RunDocument) -> Vec<Line> {
    let mut lines: Vec<Line> = run.recovery.iter().map(recovery).collect();
    lines.extend(run.injections.iter().map(effect));
    for reason in &run.reasons {
        lines.push(line("reason", format!("{}: {}", reason.code, reason.message), ""));
    }
    for host in &run.hosts {
        lines.extend(host.drift.iter().map(|drift| line("drift", format!("{} {drift}", host.name), "")));
        lines.extend(
            host.consequences
                .iter()
                .map(|told| line("changed", format!("{} {told}", host.name), "")),
        );
    }
    lines.push(line("cleanup", "", run.cleanup.as_str()));
    lines.push(line("verdict", "", run.verdict.map_or("none", Verdict::as_str)));
    lines.extend(run.hosts.iter().map(|host| line("residue", host.name.as_str(), residue(host))));
    lines
}

/// First of all: whether the system came back.
fn recovery(recovery: &RecoveryDocument) -> Line {
    line("recovery", recovery_text(recovery), "")
}

fn effect(injection: &InjectionDocument) -> Line {
    let effect = &injection.effect;
    let unit = effect.unit.as_deref().unwrap_or_default();
    let mut text = format!("{} on {} ", injection.fault, injection.host);
    match (&injection.error, injection.state) {
        (Some(error), state) => text.push_str(&format!("{}: {error}", state.as_str())),
        (None, InjectionState::Withdrawn | InjectionState::Planned) => text.push_str("was not started"),
        (None, _) => text.push_str(&effect_text(
            effect.asked,
            effect.measured,
            unit,
            effect.state,
            effect.note.as_deref(),
        )),
    }
    if let Some(ms) = injection.undo_ms {
        text.push_str(&format!(", undone in {}", stretch(ms)));
    }
    line("effect", text, "")
}

/// `none`, or what is left.
pub fn residue(host: &RunHostDocument) -> String {
    match host.cleanliness {
        Cleanliness::Clean if host.residue.is_empty() => "none".to_owned(),
        Cleanliness::Unproven => "unproven: the host could not be asked".to_owned(),
        Cleanliness::Faulted if host.residue.is_empty() => "faulted: an injection still acts".to_owned(),
        _ if host.residue.is_empty() => "dirty".to_owned(),
        _ => host.residue.join("; "),
    }
}

/// What the command answers for a run that it waited for: the judge's own number, which every document of the run shows.
pub fn exit_code(run: &RunDocument) -> u8 {
    let judged = run.exit_code.filter(|_| run.state == RunPhase::Finished);
    judged.unwrap_or(exit::ERROR)
}

/// An attack without probes asks nothing of the system: its effect and its undo are what was asked for.
fn is_plain_attack(run: &RunDocument) -> bool {
    run.origin == Origin::Attack && run.probes.is_empty() && run.reasons.iter().any(|reason| reason.code == NO_HYPOTHESIS)
}

/// Whether the run's effects are what the command is judged by.
pub fn is_no_evidence(run: &RunDocument) -> bool {
    is_plain_attack(run) && run.verdict == Some(Verdict::Inconclusive)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub fn run(change: Value) -> RunDocument {
        let mut value = json!({
            "id": "0123456789abcdef", "name": "burn", "origin": "attack", "service": null, "environment": "staging", "state": "finished",
            "verdict": "inconclusive", "exit_code": 0, "ended_by": "completed", "cleanup": "proven",
            "reasons": [{"code": "no_hypothesis", "message": "nothing was asked of the system"}],
            "plan": {"digest": "sha256:00", "seed": 7}, "by": "root@local", "created_at": "2026-01-01T00:00:00.000Z",
            "started_at": "2026-01-01T00:00:01.000Z", "finished_at": "2026-01-01T00:00:30.000Z",
            "steps": [{"path": "steps[0]", "title": "cpu.burn on web", "state": "done"}],
            "injections": [{"id": "aaaaaaaaaaaaaaaa", "step": "steps[0]", "host": "web", "fault": "cpu.burn", "params": {"percent": 60},
                "state": "undone", "ordered_at": null, "applied_at": null, "ended_at": null, "ended_by": "duration_elapsed", "undo_ms": 41,
                "effect": {"state": "confirmed", "asked": 60.0, "measured": 59.4, "unit": "percent", "noop": false, "note": null}, "error": null}],
            "hosts": [{"name": "web", "cleanliness": "clean", "residue": [], "drift": [], "consequences": []}],
            "probes": [], "detection_ms": null, "recovery_ms": null
        });
        value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_exit_code_is_the_judges_and_a_run_without_one_is_no_success() {
        assert_eq!(exit_code(&run(json!({}))), 0);
        // Confirmed and clean, and yet nothing was done: the judge knows more than the command.
        assert_eq!(exit_code(&run(json!({"exit_code": 11}))), 11);
        assert_eq!(exit_code(&run(json!({"exit_code": null}))), 1);
        assert_eq!(exit_code(&run(json!({"state": "verifying"}))), 1);
    }

    #[test]
    fn ends_with_the_verdict_and_the_residue_of_each_host() {
        let texts: Vec<String> = lines(&run(json!({})))
            .iter()
            .map(|line| line.text(str::to_owned).trim_end().to_owned())
            .collect();
        assert_eq!(
            texts,
            [
                "effect    cpu.burn on web asked 60 percent, measured 59.4: confirmed, undone in 41 ms",
                "reason    no_hypothesis: nothing was asked of the system",
                "cleanup   proven",
                "verdict   inconclusive",
                "residue   web none",
            ]
        );
        let left = json!({"hosts": [{"name": "web", "cleanliness": "dirty", "residue": ["a", "b"], "drift": [], "consequences": []},
            {"name": "cache", "cleanliness": "unproven", "residue": [], "drift": [], "consequences": []}]});
        let texts: Vec<String> = lines(&run(left)).iter().map(|line| line.text(str::to_owned)).collect();
        assert_eq!(
            texts[4..],
            ["residue   web a; b", "residue   cache unproven: the host could not be asked"]
        );
    }
}
