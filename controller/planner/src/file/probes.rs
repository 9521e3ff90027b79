//! Probes and guards of a file: what is asked, by whom, how often. Nothing is asked here.

use controller_reader::{Fields, Located, Node, Reader, places};
use proto_model::probe::{DEFAULT_BREAKS, DEFAULT_EVERY_MS, DEFAULT_TIMEOUT_MS, ProbeCheck, ProbeRole, ProbeSpec, Prober, Tolerance};
use proto_model::problem::Problem;
use proto_model::quantity::{Millis, Percent};
use proto_probes::AskedBy;

use super::once::once;
use crate::experiment::{WishedProbe, WishedProber};

/// Probes of one kind in a file.
const MOST_PROBES: usize = 50;
/// How often a probe may ask.
const EVERY: std::ops::RangeInclusive<Millis> = Millis(100)..=Millis(3_600_000);
const MOST_BREAKS: u32 = 1_000;
pub(super) const PROBE_KEYS: [&str; 4] = ["name", "from", "every", "timeout"];

pub(super) fn list(reader: &mut Reader, path: &str, at: &Located, role: ProbeRole) -> Vec<WishedProbe> {
    let items = reader.items(path, at, "probes");
    if items.len() > MOST_PROBES {
        reader.complain(path, at, format!("has {} probes", items.len()), format!("..{MOST_PROBES}"));
        return Vec::new();
    }
    let read = items
        .iter()
        .enumerate()
        .filter_map(|(i, item)| probe(reader, &format!("{path}[{i}]"), item, role));
    read.collect()
}

fn probe(reader: &mut Reader, path: &str, at: &Located, role: ProbeRole) -> Option<WishedProbe> {
    let own = match role {
        ProbeRole::Hypothesis => "tolerate",
        ProbeRole::Guard => "breaks",
    };
    let known = proto_probes::descriptions();
    let kinds: Vec<&str> = known.iter().map(|kind| kind.kind).collect();
    let allowed: Vec<&str> = PROBE_KEYS.into_iter().chain(kinds.iter().copied()).chain([own]).collect();
    let fields = reader.fields(path, at, &allowed)?;
    let name = reader
        .required(&fields, "name")
        .and_then(|(path, at)| reader.label_value(&path, at));
    let check = check(reader, path, at, &fields, &kinds);
    let from = match fields.get("from") {
        Some((path, at)) => prober(reader, &path, at),
        None => Some(WishedProber::Controller),
    };
    let pace = pace(reader, &fields);
    let tolerate = match fields.get("tolerate") {
        Some((path, at)) => tolerance(reader, &path, at),
        None => Some(Tolerance::Count(0)),
    };
    let breaks = match fields.get("breaks") {
        Some((path, at)) => reader.count(&path, at, 1).map(|n| n.min(MOST_BREAKS)),
        None => Some(DEFAULT_BREAKS),
    };
    let (every, timeout) = pace?;
    let check = check?;
    fits(reader, path, at, &check, timeout)?;
    let from = from?;
    let by_hosts = known.iter().any(|kind| kind.kind == check.kind && kind.asked_by == AskedBy::Hosts);
    if by_hosts && from == WishedProber::Controller {
        let message = format!("a {} probe is asked by hosts, never by the controller", check.kind);
        reader.complain(path, at, message, "from: a selector of hosts");
        return None;
    }
    let spec = ProbeSpec {
        name: name?,
        role,
        check,
        from: Prober::Controller,
        every_ms: every.0,
        timeout_ms: timeout.0,
        tolerate: tolerate?,
        breaks: breaks?,
    };
    Some(WishedProbe {
        path: path.to_owned(),
        spec,
        from,
    })
}

fn check(reader: &mut Reader, path: &str, at: &Located, fields: &Fields<'_>, kinds: &[&str]) -> Option<ProbeCheck> {
    let allowed = || format!("one of {}", kinds.join(", "));
    let kind = match fields.among(kinds).as_slice() {
        [kind] => *kind,
        [] => {
            reader.complain(path, at, "asks nothing", allowed());
            return None;
        }
        _ => {
            reader.complain(path, at, "asks two things", allowed());
            return None;
        }
    };
    let (path, at) = fields.get(kind)?;
    once(reader, &path, at);
    match proto_probes::parse(kind, &at.value.to_json()) {
        Ok(check) => Some(check),
        Err(problems) => {
            let found = problems.0.into_iter();
            found.for_each(|problem| reader.push(located(problem, &path, at)));
            None
        }
    }
}

/// A problem with `params`, or with something in it, at the path and place where that is written.
fn located(mut problem: Problem, path: &str, at: &Located) -> Problem {
    let below = problem.path.strip_prefix("params").unwrap_or_default().to_owned();
    problem.path = format!("{path}{below}");
    let places = places(at);
    let mut key = below.trim_start_matches('.');
    let (line, column) = loop {
        match places.get(key) {
            Some(found) => break *found,
            None => key = key.rfind(['.', '[']).map_or("", |end| &key[..end]),
        }
    };
    problem.at(line, column)
}

fn prober(reader: &mut Reader, path: &str, at: &Located) -> Option<WishedProber> {
    match &at.value {
        Node::Text(text) if text == "controller" => Some(WishedProber::Controller),
        _ => reader.selector(path, at).map(WishedProber::Hosts),
    }
}

/// `every` and `timeout`, of which the second is at most the first.
fn pace(reader: &mut Reader, fields: &Fields<'_>) -> Option<(Millis, Millis)> {
    let every = optional_duration(reader, fields, "every")?.unwrap_or(Millis(DEFAULT_EVERY_MS));
    if let Some((path, at)) = fields.get("every")
        && !EVERY.contains(&every)
    {
        reader.complain(
            &path,
            at,
            format!("{every} is out of range"),
            format!("{}..{}", EVERY.start(), EVERY.end()),
        );
        return None;
    }
    let timeout = optional_duration(reader, fields, "timeout")?.unwrap_or(Millis(DEFAULT_TIMEOUT_MS).min(every));
    if let Some((path, at)) = fields.get("timeout")
        && timeout > every
    {
        reader.complain(&path, at, format!("{timeout} is longer than every, {every}"), format!("..{every}"));
        return None;
    }
    Some((every, timeout))
}

/// A bound beyond the timeout could never be met or broken by itself.
fn fits(reader: &mut Reader, path: &str, at: &Located, check: &ProbeCheck, timeout: Millis) -> Option<()> {
    let within = check.within().unwrap_or_default();
    if within > timeout {
        reader.complain(
            path,
            at,
            format!("within {within} is longer than timeout, {timeout}"),
            format!("..{timeout}"),
        );
        return None;
    }
    Some(())
}

fn tolerance(reader: &mut Reader, path: &str, at: &Located) -> Option<Tolerance> {
    match &at.value {
        Node::Number(_) => reader.count(path, at, 0).map(Tolerance::Count),
        Node::Text(text) => match Percent::parse(text) {
            Ok(share) if text.trim().ends_with('%') => Some(Tolerance::Share(share)),
            _ => {
                reader.complain(path, at, format!("{text:?} is no tolerance"), "a count such as 2, or 0% to 100%");
                None
            }
        },
        other => {
            reader.complain(path, at, format!("is {}", other.name()), "a count such as 2, or 0% to 100%");
            None
        }
    }
}

/// `Some(None)`: not given, which is right; `None`: a problem.
fn optional_duration(reader: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<Option<Millis>> {
    match fields.get(key) {
        Some((path, at)) => reader.duration(&path, at).map(Some),
        None => Some(None),
    }
}
