//! A plan as people read it before they say yes: hosts, order, undo, warnings, refusals; pure text.

use proto_model::id::HostName;
use proto_model::injection::Reversal;
use proto_model::plan::{HostAnswer, OnFailure, Origin, Plan, PlanView, StepBody};
use proto_model::quantity::Millis;
use proto_telling::{stretch, what};

use crate::output::table;

/// What a person is told of every start: where, whom, and the choices made.
pub fn choices(plan: &Plan) -> Vec<String> {
    let hosts: Vec<&str> = plan.hosts.iter().map(|host| host.name.as_str()).collect();
    let mut lines = vec![format!("hosts     {} (seed {})", hosts.join(", "), plan.seed)];
    lines.extend(plan.notes.iter().map(|note| format!("note      {note}")));
    lines
}

/// The whole plan.
pub fn lines(view: &PlanView, wide: bool) -> Vec<String> {
    let plan = &view.plan;
    let mut lines = vec![format!("plan      {}", plan.name), format!("digest    {}", view.digest)];
    if plan.origin != Origin::Attack {
        // What a service file names as a required test's digest.
        lines.push(format!("file      {}", plan.experiment_digest()));
    }
    lines.push(format!("env       {}", plan.environment));
    lines.extend(variables(plan));
    lines.extend(choices(plan));
    lines.extend(probes(plan));
    lines.push(String::new());
    lines.extend(table::lines(&["STEP", "WHAT", "HOST", "FOR", "UNDO", "ANSWER"], &rows(view)));
    let remarks = remarks(view, wide);
    if !remarks.is_empty() {
        lines.push(String::new());
        lines.extend(remarks);
    }
    lines.push(String::new());
    lines.push(conclusion(view));
    lines
}

/// The file's variables as they were set.
fn variables(plan: &Plan) -> Option<String> {
    let set = plan
        .variables
        .iter()
        .map(|(name, value)| format!("{name}={}", proto_telling::plain(value)));
    let set: Vec<String> = set.collect();
    (!set.is_empty()).then(|| format!("set       {}", set.join(" ")))
}

fn probes(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(hypothesis) = &plan.hypothesis {
        let names: Vec<&str> = hypothesis.probes.iter().map(|probe| probe.name.as_str()).collect();
        let (before, after) = (Millis(hypothesis.before_ms), Millis(hypothesis.after_ms));
        lines.push(format!(
            "asks      {}: {} (before {before}, after {after})",
            hypothesis.says,
            names.join(", ")
        ));
    }
    for guard in &plan.guards {
        lines.push(format!(
            "guard     {}, reacts within {}",
            guard.name,
            stretch(guard.worst_reaction_ms())
        ));
    }
    lines
}

fn rows(view: &PlanView) -> Vec<Vec<String>> {
    let row = |cells: [String; 6]| cells.to_vec();
    let mut rows = Vec::new();
    for step in view.plan.all_steps() {
        let plain = |what: String| {
            let length = Millis(step.length_ms()).to_string();
            row([step.path.clone(), what, String::new(), length, String::new(), String::new()])
        };
        match &step.body {
            StepBody::Wait { .. } => rows.push(plain("wait".to_owned())),
            StepBody::Parallel(branches) => rows.push(plain(format!("{} at the same time", branches.len()))),
            StepBody::Sequence(steps) => rows.push(plain(format!("{} in order", steps.len()))),
            StepBody::Fault(fault) => {
                for injection in &fault.injections {
                    let answer = answer_word(view, &step.path, &injection.host);
                    let duration = Millis(fault.duration_ms).to_string();
                    let badge = badge(&fault.reversal).to_owned();
                    rows.push(row([
                        step.path.clone(),
                        what(fault),
                        injection.host.to_string(),
                        duration,
                        badge,
                        answer.to_owned(),
                    ]));
                }
            }
        }
    }
    rows
}

/// `full`, or that there is no way back.
fn badge(reversal: &Reversal) -> &'static str {
    match reversal {
        Reversal::Full => "full",
        Reversal::Irreversible { .. } => "IRREVERSIBLE",
    }
}

fn answer_word(view: &PlanView, step: &str, host: &HostName) -> &'static str {
    let answer = view.answers.iter().find(|answer| answer.step == step && &answer.host == host);
    match answer.map(|answer| answer.answer.accepted) {
        Some(true) => "accepts",
        Some(false) => "REFUSES",
        None => "not asked",
    }
}

fn remarks(view: &PlanView, wide: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, fault) in view.plan.fault_steps() {
        if let Reversal::Irreversible { why } = &fault.reversal {
            lines.push(format!("{path} cannot be undone: {why}"));
        }
        if fault.on_failure == OnFailure::Continue {
            lines.push(format!("{path} goes on when a host fails; the run cannot pass then"));
        }
    }
    lines.extend(refusals(view));
    for HostAnswer { step, host, answer } in &view.answers {
        lines.extend(answer.warnings.iter().map(|warning| format!("{step} {host} warns: {warning}")));
        if wide {
            lines.extend(answer.touches.iter().map(|touched| format!("{step} {host} touches: {touched}")));
            lines.extend(answer.undo.iter().map(|undo| format!("{step} {host} undo: {undo}")));
        }
    }
    lines
}

/// Every host that says no, and why.
pub fn refusals(view: &PlanView) -> Vec<String> {
    let told = |HostAnswer { step, host, answer }: &HostAnswer| {
        let refusals: Vec<String> = answer
            .refusals
            .iter()
            .map(|refusal| format!("{step} {host} refuses: {}: {refusal}", refusal.code))
            .collect();
        if refusals.is_empty() && !answer.accepted {
            vec![format!("{step} {host} refuses without a reason")]
        } else {
            refusals
        }
    };
    view.answers.iter().flat_map(told).collect()
}

fn conclusion(view: &PlanView) -> String {
    if view.accepted {
        return "every host would accept; nothing was changed".to_owned();
    }
    let mut refusing: Vec<&HostName> = view.answers.iter().filter(|a| !a.answer.accepted).map(|a| &a.host).collect();
    refusing.sort();
    refusing.dedup();
    match refusing.len() {
        0 => "the plan would be refused; nothing was changed".to_owned(),
        1 => "1 host would refuse; nothing was changed".to_owned(),
        n => format!("{n} hosts would refuse; nothing was changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn view(accepted: bool) -> PlanView {
        let refusals = if accepted {
            json!([])
        } else {
            json!([{"code": "policy", "path": "duration", "message": "30m is too long", "allowed": "1s..15m"}])
        };
        serde_json::from_value(json!({
            "digest": "sha256:ab", "created_at": "2026-01-01T00:00:00.000Z", "expires_at": "2026-01-01T01:00:00.000Z", "accepted": accepted,
            "plan": {"name": "burn", "origin": "attack", "service": null, "environment": "staging", "hypothesis": null, "guards": [], "limits": {},
                "steps": [
                    {"path": "steps[0]", "body": {"fault": {"fault": "cpu.burn", "params": {"percent": 60}, "duration_ms": 20000,
                        "reversal": {"kind": "full"}, "injections": [{"host": "web", "seed": 1}], "matched": 3}}},
                    {"path": "steps[1]", "body": {"wait": {"ms": 5000}}}],
                "hosts": [{"name": "web", "boot_id": "", "catalogue_digest": "", "labels": {}, "source_address": null}],
                "seed": 7, "notes": ["50% of 3 is 1"], "source": ""},
            "answers": [{"step": "steps[0]", "host": "web", "answer": {"accepted": accepted, "refusals": refusals, "warnings": ["no swap"],
                "undo": ["end the workers"], "touches": ["group fracas-x"]}}]
        }))
        .unwrap()
    }

    #[test]
    fn a_plan_names_hosts_order_undo_and_warnings() {
        assert_eq!(
            lines(&view(true), false),
            [
                "plan      burn",
                "digest    sha256:ab",
                "env       staging",
                "hosts     web (seed 7)",
                "note      50% of 3 is 1",
                "",
                "STEP      WHAT                 HOST  FOR  UNDO  ANSWER",
                "steps[0]  cpu.burn percent=60  web   20s  full  accepts",
                "steps[1]  wait                 -     5s   -     -",
                "",
                "steps[0] web warns: no swap",
                "",
                "every host would accept; nothing was changed",
            ]
        );
        assert!(lines(&view(true), true).contains(&"steps[0] web undo: end the workers".to_owned()));
    }

    #[test]
    fn every_refusal_is_listed_with_what_is_allowed() {
        let lines = lines(&view(false), false);
        assert!(
            lines.contains(&"steps[0] web refuses: policy: 30m is too long (allowed: 1s..15m)".to_owned()),
            "{lines:?}"
        );
        assert_eq!(lines.last().unwrap(), "1 host would refuse; nothing was changed");
    }
}
