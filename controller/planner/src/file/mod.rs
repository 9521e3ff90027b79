//! The experiment file: YAML (so JSON too) to an `Experiment`, with line and column of everything that is wrong. It plans nothing.

mod branches;
mod once;
mod probes;
#[cfg(test)]
mod published;
mod steps;
mod variables;

use std::collections::BTreeMap;

use controller_reader::{self as tree, Fields, Located, Reader};
use proto_model::plan::{Limits, Origin};
use proto_model::probe::{MIN_SAMPLES, ProbeRole};
use proto_model::problem::{Problem, Problems};
use proto_model::quantity::Millis;

use crate::experiment::{Experiment, WishedHypothesis, WishedProbe};

const API_VERSION: &str = proto_model::document::API_VERSION;
const KIND: &str = "Experiment";
const BEFORE: Millis = Millis(10_000);
const AFTER: Millis = Millis(60_000);
const NAME_LENGTH: usize = 100;

const KEYS: [&str; 10] = [
    "apiVersion",
    "kind",
    "name",
    "service",
    "environment",
    "variables",
    "hypothesis",
    "guards",
    "limits",
    "steps",
];

const HYPOTHESIS_KEYS: [&str; 4] = ["says", "before", "after", "probes"];
const LIMIT_KEYS: [&str; 4] = ["hosts", "share", "duration", "keep_healthy"];

/// Reads an experiment. Problems carry line and column, and as many are found at once as can be told apart;
/// `file_name` is not opened, it only stands in the words. `set` are the values of its variables.
pub fn parse_experiment(text: &str, file_name: &str, set: &BTreeMap<String, String>) -> Result<Experiment, Problems> {
    let mut tree = tree::parse(text, file_name).map_err(Problems::one)?;
    let mut reader = Reader::default();
    let variables = variables::settle(&mut reader, &mut tree, file_name, set);
    // A tree with holes would be wrong in ways that nobody wrote.
    reader.check()?;
    let experiment = read(&mut reader, &tree, text, variables);
    reader.finish()?;
    experiment.ok_or_else(|| Problems::one(Problem::new("", format!("{file_name} is not an experiment"))))
}

fn read(reader: &mut Reader, tree: &Located, text: &str, variables: BTreeMap<String, serde_json::Value>) -> Option<Experiment> {
    let fields = reader.fields("", tree, &KEYS)?;
    constant(reader, &fields, "apiVersion", API_VERSION);
    constant(reader, &fields, "kind", KIND);
    let name = name(reader, &fields);
    let service = fields.get("service").and_then(|(path, at)| reader.label_value(&path, at));
    let environment = fields.get("environment").and_then(|(path, at)| reader.label_value(&path, at));
    let hypothesis = fields.get("hypothesis").and_then(|(path, at)| hypothesis(reader, &path, at));
    let guards = fields
        .get("guards")
        .map(|(path, at)| probes::list(reader, &path, at, ProbeRole::Guard));
    let guards = guards.unwrap_or_default();
    unique_names(reader, hypothesis.iter().flat_map(|h| &h.probes).chain(&guards));
    let limits = fields.get("limits").and_then(|(path, at)| limits(reader, &path, at));
    let steps = reader.required(&fields, "steps").map(|(path, at)| steps::list(reader, &path, at));
    Some(Experiment {
        name: name?,
        origin: Origin::Experiment,
        service,
        environment,
        hypothesis,
        guards,
        limits: limits.unwrap_or_default(),
        steps: steps?,
        seed: None,
        source: text.to_owned(),
        variables,
        places: tree::places(tree),
    })
}

fn constant(reader: &mut Reader, fields: &Fields<'_>, key: &str, wanted: &str) {
    let Some((path, at)) = reader.required(fields, key) else { return };
    if let Some(found) = reader.text(&path, at)
        && found != wanted
    {
        reader.complain(&path, at, format!("{found:?} is not known here"), wanted);
    }
}

fn name(reader: &mut Reader, fields: &Fields<'_>) -> Option<String> {
    let (path, at) = reader.required(fields, "name")?;
    let name = reader.text(&path, at)?;
    if name.trim().is_empty() || name.len() > NAME_LENGTH || name.chars().any(char::is_control) {
        reader.complain(&path, at, "is no name", format!("1 to {NAME_LENGTH} printable characters"));
        return None;
    }
    Some(name)
}

fn hypothesis(reader: &mut Reader, path: &str, at: &Located) -> Option<WishedHypothesis> {
    let fields = reader.fields(path, at, &HYPOTHESIS_KEYS)?;
    let says = fields.get("says").and_then(|(path, at)| reader.text(&path, at));
    let probes = reader.required(&fields, "probes");
    let probes = probes.map(|(path, at)| (probes::list(reader, &path, at, ProbeRole::Hypothesis), path, at));
    let (probes, ..) = probes.inspect(|(probes, path, at)| {
        if probes.is_empty() && reader.is_fine() {
            reader.complain(path, at, "has no probe", "at least one");
        }
    })?;
    let slowest = probes.iter().map(|probe| probe.spec.every_ms).max().unwrap_or(0);
    let before = phase(reader, &fields, "before", BEFORE, slowest);
    let after = phase(reader, &fields, "after", AFTER, slowest);
    Some(WishedHypothesis {
        says: says.unwrap_or_default(),
        before_ms: before?,
        after_ms: after?,
        probes,
    })
}

/// The length of a phase, in which every probe must find the time for its samples.
fn phase(reader: &mut Reader, fields: &Fields<'_>, key: &str, default: Millis, slowest: u64) -> Option<u64> {
    let least = Millis(u64::from(MIN_SAMPLES) * slowest);
    let found = fields.get(key);
    let length = match &found {
        Some((path, at)) => reader.duration(path, at)?,
        None => default,
    };
    if length >= least {
        return Some(length.0);
    }
    let (path, at) = found.unwrap_or_else(|| (fields.child(key), fields.at));
    let message = format!("{length} is too short for {MIN_SAMPLES} samples every {}", Millis(slowest));
    reader.complain(&path, at, message, format!("{least}.."));
    None
}

fn unique_names<'a>(reader: &mut Reader, probes: impl Iterator<Item = &'a WishedProbe>) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for probe in probes {
        if let Some(first) = seen.insert(&probe.spec.name, &probe.path) {
            let message = format!("the name {:?} is taken by {first}", probe.spec.name);
            reader.push_later(format!("{}.name", probe.path), message);
        }
    }
}

fn limits(reader: &mut Reader, path: &str, at: &Located) -> Option<Limits> {
    let fields = reader.fields(path, at, &LIMIT_KEYS)?;
    Some(Limits {
        hosts: fields.get("hosts").and_then(|(path, at)| reader.count(&path, at, 1)),
        share_percent: fields.get("share").and_then(|(path, at)| reader.percent(&path, at)).map(|p| p.0),
        duration_ms: fields
            .get("duration")
            .and_then(|(path, at)| reader.duration(&path, at))
            .map(|d| d.0),
        keep_healthy: fields.get("keep_healthy").and_then(|(path, at)| reader.count(&path, at, 0)),
    })
}
