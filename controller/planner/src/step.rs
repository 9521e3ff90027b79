//! One fault step: its kind, parameters and duration, held against each target's own catalogue. It chooses no host.

use std::collections::BTreeSet;

use proto_model::catalogue::{Catalogue, DurationRule, FaultKind, KindDescription, nearest};
use proto_model::host::Host;
use proto_model::injection::Reversal;
use proto_model::plan::{FaultStep, PlannedInjection};
use proto_model::problem::{Problem, Problems};
use proto_model::schema;
use serde_json::{Map, Value};

use crate::addresses;
use crate::choice::injection_seed;
use crate::experiment::{LONGEST, SHORTEST, WishedFault, WishedParams};
use crate::inventory::Inventory;
use crate::refusal::PlanRefusal;

use crate::targets::{Targets, listed};

/// Resolves a step whose targets are chosen; adds what a person should know to `notes`.
pub(crate) fn resolve(
    wish: &WishedFault,
    targets: &Targets<'_>,
    environment: &str,
    fleet: &Inventory<'_>,
    seed: u64,
    notes: &mut Vec<String>,
) -> Result<FaultStep, PlanRefusal> {
    let descriptions = described(wish, &targets.chosen, fleet)?;
    let kind = descriptions[0].1.kind.clone();
    let duration_ms = duration(wish, &descriptions)?;
    let mut params = parameters(wish, &descriptions)?;
    for (_, description) in &descriptions[..1] {
        addresses::resolve(&wish.path, &description.params, &mut params, environment, fleet, notes)?;
    }
    let reversal = reversal(&descriptions);
    if let Reversal::Irreversible { why } = &reversal {
        notes.push(format!("{}: {kind} cannot be undone: {why}", wish.path));
    }
    let injections = targets.chosen.iter().map(|host| PlannedInjection {
        host: host.name.clone(),
        seed: injection_seed(seed, &wish.path, host.name.as_str()),
    });
    Ok(FaultStep {
        fault: kind,
        params: Value::Object(params),
        duration_ms,
        reversal,
        injections: injections.collect(),
        matched: u32::try_from(targets.matched.len()).unwrap_or(u32::MAX),
        among: Vec::new(),
        on_failure: wish.on_failure,
    })
}

type Described<'a> = Vec<(&'a Host, &'a KindDescription)>;

/// What each target's agent says of the kind; at least one, or a refusal.
fn described<'a>(wish: &WishedFault, hosts: &[&'a Host], fleet: &'a Inventory<'a>) -> Result<Described<'a>, PlanRefusal> {
    let kind = FaultKind::parse(&wish.fault).ok();
    let find = |catalogue: &'a Catalogue| kind.as_ref().and_then(|kind| catalogue.find(kind));
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for host in hosts.iter().copied() {
        match fleet.catalogue(host).and_then(find) {
            Some(description) => found.push((host, description)),
            None => missing.push(host),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    if found.is_empty() && !fleet.catalogues().any(|catalogue| find(catalogue).is_some()) {
        return Err(unknown_fault(wish, fleet));
    }
    let problem = Problem::new(format!("{}.fault", wish.path), format!("not every target offers {}", wish.fault));
    Err(missing
        .into_iter()
        .fold(PlanRefusal::problem("unknown_fault", problem), |refusal, host| {
            let version = &host.facts.agent_version;
            refusal.host(
                &host.name,
                "unknown_fault",
                format!("its agent (version {version}) does not offer {}", wish.fault),
            )
        }))
}

fn unknown_fault(wish: &WishedFault, fleet: &Inventory<'_>) -> PlanRefusal {
    let all: Vec<&KindDescription> = fleet.catalogues().flat_map(|catalogue| &catalogue.0).collect();
    let names: BTreeSet<&str> = all.iter().map(|description| description.kind.as_str()).collect();
    let hint = suggestion(&wish.fault, &all).map(|kind| format!("; did you mean {kind}?"));
    let message = format!("unknown fault {:?}{}", wish.fault, hint.unwrap_or_default());
    let known = if names.is_empty() {
        "no host has told what it offers".to_owned()
    } else {
        listed(names)
    };
    PlanRefusal::problem(
        "unknown_fault",
        Problem::new(format!("{}.fault", wish.path), message).allowed(known),
    )
}

/// The kind that may have been meant: by its other names, by its action alone, or by a name that is near.
fn suggestion<'a>(typed: &str, all: &[&'a KindDescription]) -> Option<&'a FaultKind> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-', ' '], "");
    let wanted = plain(typed);
    let by_alias = all.iter().find(|d| d.aliases.iter().any(|alias| plain(alias) == wanted));
    let by_action = || all.iter().find(|d| d.kind.as_str().split('.').any(|part| plain(part) == wanted));
    let by_sight = || {
        let near = nearest(typed, all.iter().map(|d| d.kind.as_str()))?;
        all.iter().find(|d| d.kind.as_str() == near)
    };
    let by_alias_seen = || {
        let near = nearest(typed, all.iter().flat_map(|d| &d.aliases).map(String::as_str))?;
        all.iter().find(|d| d.aliases.iter().any(|alias| alias == near))
    };
    by_alias
        .or_else(by_action)
        .or_else(by_sight)
        .or_else(by_alias_seen)
        .map(|d| &d.kind)
}

fn duration(wish: &WishedFault, descriptions: &Described<'_>) -> Result<u64, PlanRefusal> {
    let path = format!("{}.duration", wish.path);
    let refuse = |message: String| Err(PlanRefusal::problem("invalid_params", Problem::new(&path, message).allowed(span())));
    for (host, description) in descriptions {
        match (description.duration, wish.duration) {
            (DurationRule::Required, None) => return refuse(format!("{} on {} needs a duration", wish.fault, host.name)),
            (DurationRule::None, Some(_)) => {
                let problem = Problem::new(&path, format!("{} on {} takes no duration", wish.fault, host.name));
                return Err(PlanRefusal::problem("invalid_params", problem));
            }
            _ => {}
        }
    }
    match wish.duration {
        Some(duration) if !(SHORTEST..=LONGEST).contains(&duration) => refuse(format!("{duration} is out of range")),
        Some(duration) => Ok(duration.0),
        None => own_duration(wish, descriptions, &path),
    }
}

/// As long as the kind says by itself; where agents' versions differ, the longest.
fn own_duration(wish: &WishedFault, descriptions: &Described<'_>, path: &str) -> Result<u64, PlanRefusal> {
    let mut longest = 0;
    for (host, description) in descriptions {
        let Some(own) = description.lasts_ms.filter(|ms| *ms > 0) else {
            let message = format!("{} on {} does not say how long it lasts by itself", wish.fault, host.name);
            return Err(PlanRefusal::problem("invalid_params", Problem::new(path, message).allowed(span())));
        };
        longest = longest.max(own);
    }
    Ok(longest)
}

pub(crate) fn span() -> String {
    format!("{SHORTEST}..{LONGEST}")
}

/// The parameters as every target's catalogue takes them; all targets must take them alike.
fn parameters(wish: &WishedFault, descriptions: &Described<'_>) -> Result<Map<String, Value>, PlanRefusal> {
    let mut agreed: Option<(&Host, Map<String, Value>)> = None;
    for (host, description) in distinct(descriptions) {
        let typed = match &wish.params {
            WishedParams::Typed(params) => schema::check(&description.params, params),
            WishedParams::Text(pairs) => schema::from_text(&description.params, pairs),
        };
        let typed = typed.map_err(|problems| invalid_params(wish, host, problems))?;
        match &agreed {
            Some((first, params)) if params != &typed => {
                let message = format!(
                    "{} and {} understand the parameters differently: their agents' versions differ",
                    first.name, host.name
                );
                return Err(PlanRefusal::problem(
                    "invalid_params",
                    Problem::new(format!("{}.params", wish.path), message),
                ));
            }
            Some(_) => {}
            None => agreed = Some((host, typed)),
        }
    }
    Ok(agreed.map(|(_, params)| params).unwrap_or_default())
}

/// One host for each description: what its agent shares with others is checked once.
fn distinct<'a>(descriptions: &Described<'a>) -> Described<'a> {
    let mut seen = BTreeSet::new();
    let first = descriptions
        .iter()
        .filter(|(_, description)| seen.insert(std::ptr::from_ref(*description)));
    first.copied().collect()
}

fn invalid_params(wish: &WishedFault, host: &Host, problems: Problems) -> PlanRefusal {
    let located = problems.0.into_iter().map(|mut problem| {
        problem.path = format!("{}.{}", wish.path, problem.path);
        problem
    });
    let refusal = PlanRefusal::problems("invalid_params", Problems(located.collect()));
    let message = format!("{} does not take these parameters", wish.fault);
    refusal.host(&host.name, "invalid_params", message)
}

fn reversal(descriptions: &Described<'_>) -> Reversal {
    let irreversible = descriptions.iter().find(|(_, d)| d.reversal != Reversal::Full);
    irreversible.map_or(Reversal::Full, |(_, d)| d.reversal.clone())
}
