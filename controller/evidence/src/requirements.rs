//! The requirements that can be computed, one function each. Nothing is true for want of something to look at.

use std::collections::BTreeSet;

use proto_model::evidence::{Requirement, Standing};
use proto_model::host::PRODUCTION;
use proto_model::time::Timestamp;

use crate::cadence::{CADENCE_DAYS, DAY_MS, MOST_EXCLUDED, WARN_DAYS, cadence, days};
use crate::known::Evidence;
use crate::past::{Past, of_service};

/// Points on a dashboard that make a line over time.
const LEAST_POINTS: u32 = 2;

pub(crate) fn requirement(code: &str, title: &str, standing: Standing) -> Requirement {
    Requirement {
        code: code.to_owned(),
        title: title.to_owned(),
        standing,
        says: Vec::new(),
        next: None,
        holds_until: None,
        warning: None,
        evidence: Vec::new(),
        passed_over: Vec::new(),
    }
}

pub(crate) fn not_evaluated(code: &str, title: &str, why: &str) -> Requirement {
    let mut line = requirement(code, title, Standing::NotEvaluated);
    line.says.push(why.to_owned());
    line.next = Some("nothing: this version does not look at it".to_owned());
    line
}

fn missing(mut line: Requirement, says: impl Into<String>, next: impl Into<String>) -> Requirement {
    line.standing = Standing::Missing;
    line.says.push(says.into());
    line.next.get_or_insert(next.into());
    line
}

/// Level 1: the file says everything that a responder needs to find.
pub(crate) fn service_file(evidence: &Evidence<'_>) -> Requirement {
    let service = evidence.service;
    let mut line = requirement(
        "service_file",
        "prerequisites in one place: the service file is complete",
        Standing::Holds,
    );
    if service.critical.is_empty() {
        let next = "declare what the service cannot do without under dependencies.critical";
        return missing(line, "the service file declares no critical dependency", next);
    }
    for dependency in &service.critical {
        if !service.playbooks.iter().any(|playbook| playbook.dependency == dependency.name) {
            let next = format!(
                "add a playbook with dependency: {} to the service file and apply it",
                dependency.name
            );
            line = missing(line, format!("{} has no playbook", dependency.name), next);
        }
    }
    if line.standing == Standing::Holds {
        let (critical, playbooks) = (service.critical.len(), service.playbooks.len());
        line.says.push(format!("critical dependencies: {critical}, playbooks: {playbooks}"));
    }
    line
}

/// Level 2: each critical dependency was failed where production could not be hurt, and the service held.
pub(crate) fn fail_tested(evidence: &Evidence<'_>) -> Requirement {
    let (service, now) = (evidence.service, evidence.now);
    let past = of_service(&service.name, evidence.runs, now);
    let title = "critical dependencies are fail-tested outside production";
    let mut line = requirement("fail_tested", title, Standing::Holds);
    if service.critical.is_empty() {
        let next = "declare what the service cannot do without under dependencies.critical";
        return missing(line, "the service file declares no critical dependency", next);
    }
    let production = production_environments(&past);
    for dependency in &service.critical {
        let tests = past.iter().filter_map(|p| {
            let test = dependency.tests.iter().find(|test| test.name == p.run.name)?;
            let shared = || {
                let environment = &p.run.environment;
                let itself = p.known.worth.production.then(|| format!("{environment} is production"));
                itself.or_else(|| production.iter().find_map(|name| service.shared(environment, name)))
            };
            Some((p, p.known.is_no_pass().or_else(|| p.differs_from(test)).or_else(shared)))
        });
        let (counted, excluded): (Vec<_>, Vec<_>) = tests.partition(|(_, why)| why.is_none());
        match (counted.first(), excluded.first()) {
            (Some((pass, _)), _) => {
                let (name, place) = (&pass.run.name, &pass.run.environment);
                let age = days(now.since(pass.ended_at));
                line.says.push(format!("{}: {name} passed in {place} {age}", dependency.name));
                line.evidence.push(pass.witness(now));
            }
            (None, newest) => {
                let why = match newest {
                    Some((past, Some(why))) => format!("no run of its tests counts; the last, {}: {why}", past.run.id),
                    _ => "no test of it has run".to_owned(),
                };
                let tests: Vec<&str> = dependency.tests.iter().map(|test| test.name.as_str()).collect();
                let next = format!(
                    "run {} in an environment that shares nothing with {PRODUCTION}, until it passes",
                    tests.join(" or ")
                );
                line = missing(line, format!("{}: {why}", dependency.name), next);
                let named = excluded.into_iter().take(MOST_EXCLUDED);
                line.passed_over
                    .extend(named.map(|(past, why)| past.excluded(now, why.unwrap_or_default())));
            }
        }
    }
    line
}

/// Level 2: somebody could read of it.
pub(crate) fn published(evidence: &Evidence<'_>) -> Requirement {
    let line = requirement("published", "results are published", Standing::Holds);
    match latest(evidence, 1) {
        Some(found) => Requirement {
            says: vec![found.says],
            ..line
        },
        None => missing(line, "no publication shows a decided run of this service", PUBLISH),
    }
}

const PUBLISH: &str = "publish the results: fracas publish DIR";

struct Found {
    says: String,
    at: Timestamp,
}

fn latest(evidence: &Evidence<'_>, least: u32) -> Option<Found> {
    let points = |p: &proto_model::evidence::Publication| p.points.get(&evidence.service.name).copied().unwrap_or(0);
    let by_now = evidence.publications.iter().filter(|p| p.at <= evidence.now && points(p) >= least);
    let found = by_now.max_by_key(|p| p.at)?;
    Some(Found {
        says: format!(
            "{} by {} with {} decided runs, {}",
            found.place,
            found.by,
            points(found),
            days(evidence.now.since(found.at))
        ),
        at: found.at,
    })
}

/// Level 3: each required test keeps its rhythm.
pub(crate) fn on_a_cadence(evidence: &Evidence<'_>) -> Requirement {
    let tests = cadence(evidence.service, evidence.runs, evidence.now);
    let title = format!("each required test passes at least every {CADENCE_DAYS} days");
    let mut line = requirement("on_a_cadence", &title, Standing::Holds);
    if tests.is_empty() {
        return missing(
            line,
            "the service file requires no test",
            "name experiments under tests of a dependency",
        );
    }
    let mut warnings = Vec::new();
    for test in tests {
        if test.standing == Standing::Holds {
            line.says.push(test.says);
        } else {
            line = missing(
                line,
                test.says,
                format!("run {} until it passes, and again within {CADENCE_DAYS} days", test.test),
            );
        }
        line.evidence.extend(test.passes);
        line.passed_over.extend(test.excluded);
        line.holds_until = [line.holds_until, test.due_at].into_iter().flatten().min();
        warnings.extend(test.warning);
    }
    if line.standing != Standing::Holds {
        line.holds_until = None;
    }
    line.warning = (!warnings.is_empty()).then(|| warnings.join("; "));
    line
}

/// Level 3: readers can see it change.
pub(crate) fn on_a_dashboard(evidence: &Evidence<'_>) -> Requirement {
    let line = requirement("on_a_dashboard", "results are on a dashboard over time", Standing::Holds);
    let Some(found) = latest(evidence, LEAST_POINTS) else {
        let says = format!("no publication shows {LEAST_POINTS} decided runs of this service");
        return missing(line, says, PUBLISH);
    };
    let age = evidence.now.since(found.at);
    if age > CADENCE_DAYS * DAY_MS {
        let says = format!("last published over {CADENCE_DAYS} days ago: {}", found.says);
        return missing(line, says, PUBLISH);
    }
    let until = found.at.plus_ms(CADENCE_DAYS * DAY_MS);
    Requirement {
        says: vec![found.says],
        holds_until: Some(until),
        warning: (age > WARN_DAYS * DAY_MS).then(|| format!("publish again by {until}")),
        ..line
    }
}

/// Environments that are production by their name, or were declared so when a run of the service was planned.
fn production_environments<'a>(past: &[Past<'a>]) -> BTreeSet<&'a str> {
    let planned = past.iter().filter(|p| p.known.worth.production).map(|p| p.run.environment.as_str());
    planned.chain([PRODUCTION]).collect()
}

/// Level 3: a fault acted in production, and what it showed is known.
pub(crate) fn in_production(evidence: &Evidence<'_>) -> Requirement {
    let (service, now) = (evidence.service, evidence.now);
    let mut line = requirement("in_production", "a failure is injected in production", Standing::Holds);
    let past = of_service(&service.name, evidence.runs, now);
    let declared = |name: &str| service.environments.contains_key(name);
    if !production_environments(&past).into_iter().any(declared) {
        let next = format!("declare {PRODUCTION} under environments in the service file and apply it");
        return missing(line, format!("the service file does not declare {PRODUCTION}"), next);
    }
    let in_production = |p: &&Past<'_>| p.known.worth.production && declared(&p.run.environment);
    let there: Vec<&Past<'_>> = past.iter().filter(in_production).collect();
    let counts = there.iter().position(|p| p.known.shows_no_production().is_none());
    let next = format!("run a required test in {PRODUCTION}: fracas run FILE --confirm {PRODUCTION}");
    let newer = &there[..counts.unwrap_or(there.len())];
    let Some(decided) = counts.map(|at| there[at]) else {
        let says = format!("no run of this service in {PRODUCTION} ended as passed or failed with a confirmed fault on hosts labelled so");
        return pass_over(missing(line, says, next), newer, now);
    };
    line.evidence.push(decided.witness(now));
    let (age, until) = (now.since(decided.ended_at), decided.ended_at.plus_ms(CADENCE_DAYS * DAY_MS));
    let (run, verdict) = (decided.run, decided.verdict.as_str());
    let says = format!("{} {verdict} in {} {}", run.name, run.environment, days(age));
    if age > CADENCE_DAYS * DAY_MS {
        let line = missing(line, format!("the last one is over {CADENCE_DAYS} days old: {says}"), next);
        return pass_over(line, newer, now);
    }
    Requirement {
        says: vec![says],
        holds_until: Some(until),
        warning: (age > WARN_DAYS * DAY_MS).then(|| format!("run it again by {until}")),
        ..line
    }
}

/// The newest runs that would have been evidence, each with why it is none.
fn pass_over(mut line: Requirement, runs: &[&Past<'_>], now: Timestamp) -> Requirement {
    for past in runs.iter().take(MOST_EXCLUDED) {
        line.passed_over
            .push(past.excluded(now, past.known.shows_no_production().unwrap_or_default()));
    }
    line
}
