//! Which hosts are meant, which of them may be used, and which are chosen. Nothing that matches nobody is ever silent.

use std::collections::{BTreeMap, BTreeSet};

use controller_policy::{Unfitness, hosts_in_words, unfitness};
use controller_reader::only_facts;
use proto_model::catalogue::nearest;
use proto_model::host::{Host, PRODUCTION};
use proto_model::plan::Origin;
use proto_model::problem::Problem;
use proto_model::quantity::Pick;
use proto_model::selector::{Selector, Term};

use crate::choice::choose;
use crate::experiment::{Experiment, WishedFault, WishedPick, WishedStep, WishedTarget};
use crate::inventory::Inventory;
use crate::refusal::PlanRefusal;

/// Values and names that a hint lists at most.
const HINTS: usize = 12;

pub(crate) struct Targets<'a> {
    /// In the order of their names.
    pub chosen: Vec<&'a Host>,
    /// All that matched, before `pick`.
    pub matched: Vec<&'a Host>,
    pub notes: Vec<String>,
}

/// The one environment of the plan: the one that is asked for, or the one that all matching hosts share.
pub(crate) fn environment(experiment: &Experiment, fleet: &Inventory<'_>) -> Result<String, PlanRefusal> {
    if let Some(environment) = &experiment.environment {
        return fleet.declared(environment);
    }
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for step in fault_steps(experiment) {
        let hosts: Vec<&Host> = fleet.known().filter(|host| step.on.matches(host)).collect();
        if hosts.is_empty() {
            return Err(nobody(step, fleet));
        }
        for host in hosts {
            found.entry(fleet.environment_of(host)).or_default().insert(host.name.as_str());
        }
    }
    match found.len() {
        0 => fleet.declared(PRODUCTION),
        1 => fleet.declared(&found.into_keys().collect::<String>()),
        _ => {
            let words: Vec<String> = found
                .iter()
                .map(|(environment, hosts)| format!("{environment} ({})", listed(hosts.iter().copied())))
                .collect();
            let message = format!("the hosts that match are of more than one environment: {}", words.join(", "));
            let problem = Problem::new("environment", message).allowed("one environment in a plan; a host without label env is production");
            Err(PlanRefusal::problem("environment", problem))
        }
    }
}

fn fault_steps(experiment: &Experiment) -> impl Iterator<Item = &WishedFault> {
    experiment.steps.iter().flat_map(WishedStep::faults)
}

/// The hosts of one step.
pub(crate) fn targets<'a>(
    step: &WishedFault,
    origin: Origin,
    environment: &str,
    fleet: &'a Inventory<'a>,
    seed: u64,
) -> Result<Targets<'a>, PlanRefusal> {
    selectors_allowed(step, environment, fleet)?;
    named_hosts_exist(step, environment, fleet)?;
    let matched = in_environment(step, environment, fleet)?;
    match &step.on.pick {
        None => everybody(step, origin, matched),
        Some(pick) => some(step, pick, matched, pick.seed.unwrap_or(seed)),
    }
}

fn selectors_allowed(step: &WishedFault, environment: &str, fleet: &Inventory<'_>) -> Result<(), PlanRefusal> {
    for selector in &step.on.selectors {
        facts_allowed(&format!("{}.on", step.path), selector, environment, fleet)?;
    }
    Ok(())
}

/// Facts never select alone, and never at all in production: a host states them itself.
pub(crate) fn facts_allowed(path: &str, selector: &Selector, environment: &str, fleet: &Inventory<'_>) -> Result<(), PlanRefusal> {
    if let Some(problem) = only_facts(path, selector) {
        return Err(PlanRefusal::problem("environment", problem));
    }
    if fleet.is_production(environment) && selector.uses_facts() {
        let message = format!("selector {selector} uses facts, which a host states itself");
        let problem = Problem::new(path, message).allowed("labels and names, in production");
        return Err(PlanRefusal::problem("environment", problem));
    }
    Ok(())
}

fn named_hosts_exist(step: &WishedFault, environment: &str, fleet: &Inventory<'_>) -> Result<(), PlanRefusal> {
    for name in step.on.names() {
        match fleet.named(name) {
            None => return Err(nobody(step, fleet)),
            Some(host) if fleet.environment_of(host) != environment => return Err(elsewhere(step, environment, &[host], fleet)),
            Some(_) => {}
        }
    }
    Ok(())
}

fn in_environment<'a>(step: &WishedFault, environment: &str, fleet: &'a Inventory<'a>) -> Result<Vec<&'a Host>, PlanRefusal> {
    let matching: Vec<&Host> = fleet.known().filter(|host| step.on.matches(host)).collect();
    if matching.is_empty() {
        return Err(nobody(step, fleet));
    }
    let mut here: Vec<&Host> = matching
        .iter()
        .copied()
        .filter(|host| fleet.environment_of(host) == environment)
        .collect();
    if here.is_empty() {
        return Err(elsewhere(step, environment, &matching, fleet));
    }
    here.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(here)
}

/// Without a pick everything that matches is meant: one host that cannot be used is a refusal.
fn everybody<'a>(step: &WishedFault, origin: Origin, matched: Vec<&'a Host>) -> Result<Targets<'a>, PlanRefusal> {
    let message = format!("not every host that matches {} may be used", step.on.text());
    refuse(step, message, &matched, |host| bar(host, origin))?;
    let shared = matched.iter().filter_map(|host| Some((host, unfitness(host)?)));
    let notes = shared.map(|(host, unfit)| {
        let (path, name) = (&step.path, &host.name);
        format!("{path}: {name} {}; it decides whether both can act", unfit.why)
    });
    Ok(Targets {
        notes: notes.collect(),
        chosen: matched.clone(),
        matched,
    })
}

fn some<'a>(step: &WishedFault, pick: &WishedPick, matched: Vec<&'a Host>, seed: u64) -> Result<Targets<'a>, PlanRefusal> {
    let wanted = pick.count.of(matched.len());
    if wanted > matched.len() {
        let message = format!(
            "pick {} of {}: only {} {}",
            pick.count,
            step.on.text(),
            hosts_in_words(matched.len()),
            if matched.len() == 1 { "matches" } else { "match" }
        );
        let problem = Problem::new(format!("{}.on.pick", step.path), message).allowed(format!("1..{}", matched.len()));
        return Err(PlanRefusal::problem("no_targets", problem));
    }
    let (healthy, unfit): (Vec<&Host>, Vec<&Host>) = matched.iter().partition(|host| unfitness(host).is_none());
    if wanted > healthy.len() {
        let have = healthy.len();
        let message = format!("{wanted} of {} are to be picked and only {have} may be used", step.on.text());
        refuse(step, message, &matched, unfitness)?;
    }
    let mut notes = Vec::new();
    if let Pick::Share(share) = pick.count {
        notes.push(rounding(&step.path, &share.to_string(), share.0, matched.len(), wanted));
    }
    notes.extend(unfit.iter().filter_map(|host| {
        let unfit = unfitness(host)?;
        Some(format!("{}: {} is not a candidate: it {}", step.path, host.name, unfit.why))
    }));
    if let Some(label) = &pick.spread {
        let without = healthy.iter().filter(|host| !host.labels.contains_key(label)).count();
        if without > 0 {
            notes.push(format!(
                "{}: {} without label {label} count as one group of the spread",
                step.path,
                hosts_in_words(without)
            ));
        }
    }
    let chosen = choose(&healthy, wanted, seed, pick.spread.as_deref());
    Ok(Targets { chosen, matched, notes })
}

fn rounding(path: &str, text: &str, share: f64, matching: usize, wanted: usize) -> String {
    let exact = matching as f64 * share / 100.0;
    let how = match exact {
        exact if exact < 1.0 => ", the least there is",
        exact if exact.fract() != 0.0 => ", rounded down",
        _ => "",
    };
    format!("{path}: {text} of {} is {wanted}{how}", hosts_in_words(matching))
}

/// Refuses with every host that may not be used now, each with its reason; `Ok` when there is none.
fn refuse(step: &WishedFault, message: String, hosts: &[&Host], bar: impl Fn(&Host) -> Option<Unfitness>) -> Result<(), PlanRefusal> {
    let unfit: Vec<_> = hosts.iter().filter_map(|host| Some((host, bar(host)?))).collect();
    if unfit.is_empty() {
        return Ok(());
    }
    let refusal = PlanRefusal::problem("unhealthy", Problem::new(format!("{}.on", step.path), message));
    Err(unfit.into_iter().fold(refusal, |refusal, (host, unfit)| {
        let next = next_command(unfit.code).map(|verb| format!("; next: `fracas hosts {verb} {}`", host.name));
        refusal.host(&host.name, unfit.code, unfit.why + &next.unwrap_or_default())
    }))
}

/// What a person may do about a host that may not be used.
fn next_command(code: &str) -> Option<&'static str> {
    match code {
        "locked" => Some("unlock"),
        "dirty" | "lost" => Some("show"),
        "unproven" => Some("verify"),
        "cordoned" => Some("uncordon"),
        _ => None,
    }
}

/// What keeps a host from being used for a wish of this origin.
pub(crate) fn bar(host: &Host, origin: Origin) -> Option<Unfitness> {
    unfitness(host).filter(|unfit| unfit.bars(origin))
}

fn elsewhere<'a>(step: &WishedFault, environment: &str, hosts: &[&'a Host], fleet: &Inventory<'a>) -> PlanRefusal {
    let message = format!("{} matches no host of {environment}", step.on.text());
    let problem = Problem::new(format!("{}.on", step.path), message).allowed(format!("hosts with label env={environment}"));
    hosts
        .iter()
        .take(HINTS)
        .fold(PlanRefusal::problem("environment", problem), |refusal, host| {
            refusal.host(&host.name, "environment", format!("is of {}", fleet.environment_of(host)))
        })
}

fn nobody(step: &WishedFault, fleet: &Inventory<'_>) -> PlanRefusal {
    no_targets(&format!("{}.on", step.path), &step.on, fleet)
}

/// Zero targets, with what there is near what was asked for.
pub(crate) fn no_targets(path: &str, on: &WishedTarget, fleet: &Inventory<'_>) -> PlanRefusal {
    let hosts: Vec<&Host> = fleet.known().collect();
    if hosts.is_empty() {
        let message = format!("no host matches {}: no host is enrolled yet, see `fracas tokens create`", on.text());
        return PlanRefusal::problem("no_targets", Problem::new(path, message));
    }
    let mut problem = Problem::new(path, format!("no host matches {}", on.text()));
    problem.allowed = on.selectors.iter().find_map(|selector| hint(selector, &hosts));
    PlanRefusal::problem("no_targets", problem)
}

/// What there is, for the first term that holds on no host, or the first at all.
fn hint(selector: &Selector, hosts: &[&Host]) -> Option<String> {
    let Selector::Terms(terms) = selector else { return None };
    let holds = |term: &Term| {
        let alone = Selector::Terms(vec![term.clone()]);
        hosts.iter().any(|host| alone.matches(&host.name, &host.selectable()))
    };
    let term = terms.iter().find(|term| !holds(term)).or(terms.first())?;
    let names = || hosts.iter().map(|host| host.name.as_str());
    let key = match term {
        Term::Name(name) => return Some(with_guess(name.as_str(), "hosts", names().collect())),
        Term::Equal(key, _) | Term::NotEqual(key, _) | Term::In(key, _) | Term::NotIn(key, _) | Term::Has(key) | Term::HasNot(key) => key,
    };
    let all: Vec<BTreeMap<String, String>> = hosts.iter().map(|host| host.selectable()).collect();
    let values: BTreeSet<&str> = all.iter().filter_map(|labels| labels.get(key)).map(String::as_str).collect();
    if values.is_empty() {
        let keys = all.iter().flat_map(|labels| labels.keys()).map(String::as_str);
        return Some(with_guess(key, "labels", keys.collect()));
    }
    match term {
        Term::Equal(_, value) => Some(with_guess(value, &format!("values of {key}"), values)),
        _ => Some(format!("values of {key} are: {}", listed(values))),
    }
}

fn with_guess(typed: &str, what: &str, there: BTreeSet<&str>) -> String {
    let guess = nearest(typed, there.iter().copied()).map(|near| format!("; did you mean {near}?"));
    format!("{what} are: {}{}", listed(there), guess.unwrap_or_default())
}

pub(crate) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    let more = words.len().saturating_sub(HINTS);
    let shown = words[..words.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
