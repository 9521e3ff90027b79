//! A run as people read it: what was asked, what acted, what was undone, what the probes saw; pure text.

use proto_model::document::{InjectionDocument, ProbePhaseDocument, RunDocument};
use proto_model::plan::Origin;
use proto_model::probe::Phase;
use proto_model::summary::RunSummary;
use proto_model::time::Timestamp;
use proto_telling::{figure, pairs, recovery_text, stretch};

use crate::age::ago;
use crate::documents::Shown;
use crate::output::table;
use crate::summary::residue;

impl Shown for RunSummary {
    const KIND: &'static str = "Run";
    const PLURAL: &'static str = "runs";

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn header(wide: bool) -> &'static [&'static str] {
        if wide {
            &[
                "NAME", "RUN", "STATE", "VERDICT", "CLEANUP", "ENV", "HOSTS", "ORIGIN", "BY", "PLAN", "AGE",
            ]
        } else {
            &["NAME", "RUN", "STATE", "VERDICT", "CLEANUP", "ENV", "HOSTS", "AGE"]
        }
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let verdict = self.verdict.map_or("", |verdict| verdict.as_str());
        let mut row: Vec<String> = [
            &self.name,
            self.id.as_str(),
            self.state.as_str(),
            verdict,
            self.cleanup.as_str(),
            &self.environment,
        ]
        .map(str::to_owned)
        .to_vec();
        row.push(self.hosts_total.to_string());
        if wide {
            let digest: String = self.plan.digest.chars().take(19).collect();
            row.extend([format!("{:?}", self.origin).to_lowercase(), self.by.clone(), digest]);
        }
        row.push(ago(self.created_at, now));
        row
    }
}

/// The facts of a run above its tables; the verdict is painted by the caller.
pub fn head(run: &RunDocument, paint: impl Fn(&str) -> String) -> Vec<String> {
    let verdict = run
        .verdict
        .map_or_else(|| "not judged yet".to_owned(), |verdict| paint(verdict.as_str()));
    let mut lines = vec![
        format!("run       {} {}", run.id, run.name),
        format!("state     {}", run.state.as_str()),
        format!("verdict   {verdict}"),
        format!("cleanup   {}", paint(run.cleanup.as_str())),
    ];
    lines.splice(
        ..0,
        run.recovery.iter().map(|recovery| format!("recovery  {}", recovery_text(recovery))),
    );
    if let Some(ended_by) = run.ended_by {
        lines.push(format!("ended by  {}", ended_by.as_str().replace('_', " ")));
    }
    for reason in &run.reasons {
        lines.push(format!("reason    {}: {}", reason.code, reason.message));
    }
    let service = run
        .service
        .as_ref()
        .map(|service| format!(", service {service}"))
        .unwrap_or_default();
    lines.push(format!("env       {}{service}", run.environment));
    lines.push(format!("by        {} at {}", run.by, run.created_at));
    lines.push(format!("plan      {} (seed {})", run.plan.digest, run.plan.seed));
    if run.origin != Origin::Attack && !run.plan.experiment.is_empty() {
        lines.push(format!("file      {}", run.plan.experiment));
    }
    lines.extend(run.detection_ms.map(|ms| format!("detection {}", stretch(ms))));
    lines
}

/// Steps, injections, probes and hosts, each as a table.
pub fn tables(run: &RunDocument) -> Vec<String> {
    let steps = run
        .steps
        .iter()
        .map(|step| vec![step.path.clone(), step.title.clone(), step.state.clone()]);
    let hosts = run.hosts.iter().map(|host| {
        let told = |texts: &[String]| texts.join("; ");
        vec![
            host.name.to_string(),
            host.cleanliness.as_str().to_owned(),
            residue(host),
            told(&host.drift),
            told(&host.consequences),
        ]
    });
    let mut lines = section(&["STEP", "WHAT", "STATE"], steps.collect());
    let header = [
        "INJECTION",
        "FAULT",
        "HOST",
        "STATE",
        "ASKED",
        "MEASURED",
        "EFFECT",
        "ENDED BY",
        "UNDO",
        "NOTE",
    ];
    lines.extend(section(&header, run.injections.iter().map(injection).collect()));
    lines.extend(section(
        &["PROBE", "PHASE", "SAMPLES", "BAD", "MISSING", "HELD"],
        run.probes.iter().map(probe).collect(),
    ));
    lines.extend(section(&["HOST", "CLEAN", "RESIDUE", "DRIFT", "CHANGED"], hosts.collect()));
    lines
}

fn section(header: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    std::iter::once(String::new()).chain(table::lines(header, &rows)).collect()
}

fn injection(injection: &InjectionDocument) -> Vec<String> {
    let effect = &injection.effect;
    let unit = effect.unit.as_deref().unwrap_or_default();
    let amount = |value: Option<f64>| {
        value
            .map(|value| format!("{} {unit}", figure(value)).trim_end().to_owned())
            .unwrap_or_default()
    };
    let fault = std::iter::once(injection.fault.to_string())
        .chain(pairs(&injection.params))
        .collect::<Vec<_>>()
        .join(" ");
    let noop = if effect.noop { "already so; " } else { "" };
    let note = injection.error.as_deref().or(effect.note.as_deref()).unwrap_or_default();
    vec![
        injection.id.to_string(),
        fault,
        injection.host.to_string(),
        injection.state.as_str().to_owned(),
        amount(effect.asked),
        amount(effect.measured),
        effect.state.as_str().to_owned(),
        injection.ended_by.map(|by| by.as_str().replace('_', " ")).unwrap_or_default(),
        injection.undo_ms.map(stretch).unwrap_or_default(),
        format!("{noop}{note}").trim_end_matches("; ").to_owned(),
    ]
}

fn probe(probe: &ProbePhaseDocument) -> Vec<String> {
    let phase = match probe.phase {
        Phase::Before => "before",
        Phase::During => "during",
        Phase::After => "after",
    };
    let held = match probe.held {
        Some(true) => "yes",
        Some(false) => "no",
        None => "too few samples",
    };
    let counts = [probe.samples, probe.bad, probe.missing].map(|count| count.to_string());
    let names = [probe.name.clone(), phase.to_owned()];
    names.into_iter().chain(counts).chain([held.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shows_asked_measured_and_undo() {
        let run = crate::summary::tests::run(json!({}));
        let lines = tables(&run);
        let at = lines.iter().position(|line| line.starts_with("INJECTION")).unwrap();
        assert_eq!(
            lines[at + 1].split_whitespace().collect::<Vec<_>>().join(" "),
            "aaaaaaaaaaaaaaaa cpu.burn percent=60 web undone 60 percent 59.4 percent confirmed duration elapsed 41 ms -"
        );
        assert!(head(&run, str::to_owned).contains(&"verdict   inconclusive".to_owned()));
    }
}
