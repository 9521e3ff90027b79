//! The steps of a file: faults and waits, one after the other. Which kinds of fault there are is not known here.

use proto_model::problem::Problem;
use proto_model::quantity::Pick;
use proto_model::selector::{self, Selector, Term};
use serde_json::{Map, Value};

use super::reader::{Fields, Reader};
use super::tree::{Located, Node, place};
use crate::experiment::{LONGEST, WishedFault, WishedParams, WishedPick, WishedStep, WishedTarget};

/// Steps of one experiment.
const MOST_STEPS: usize = 200;

pub(super) fn list(reader: &mut Reader, path: &str, at: &Located) -> Vec<WishedStep> {
    let fine_before = reader.is_fine();
    let items = reader.items(path, at, "steps");
    if items.len() > MOST_STEPS {
        reader.complain(path, at, format!("has {} steps", items.len()), format!("..{MOST_STEPS}"));
        return Vec::new();
    }
    let read = items
        .iter()
        .enumerate()
        .filter_map(|(i, item)| step(reader, &format!("{path}[{i}]"), item));
    let steps: Vec<WishedStep> = read.collect();
    let no_fault = !steps.iter().any(|step| matches!(step, WishedStep::Fault(_)));
    if no_fault && fine_before == reader.is_fine() {
        reader.complain(path, at, "injects nothing", "at least one step with a fault");
    }
    steps
}

fn step(reader: &mut Reader, path: &str, at: &Located) -> Option<WishedStep> {
    let fields = reader.fields(path, at, &["fault", "params", "on", "duration", "wait"])?;
    if fields.get("wait").is_some() {
        return wait(reader, path, &fields);
    }
    if fields.get("fault").is_none() {
        reader.complain(path, at, "says neither what to inject nor to wait", "fault or wait");
        return None;
    }
    let fault = fields.get("fault").and_then(|(path, at)| reader.text(&path, at));
    let params = match fields.get("params") {
        Some((path, at)) => params(reader, &path, at),
        None => Some(Map::new()),
    };
    let on = reader.required(&fields, "on").and_then(|(path, at)| target(reader, &path, at));
    let duration = match fields.get("duration") {
        Some((path, at)) => Some(reader.duration(&path, at)?),
        None => None,
    };
    Some(WishedStep::Fault(WishedFault {
        path: path.to_owned(),
        fault: fault?,
        params: WishedParams::Typed(params?),
        on: on?,
        duration,
    }))
}

fn wait(reader: &mut Reader, path: &str, fields: &Fields<'_>) -> Option<WishedStep> {
    for key in fields.among(&["fault", "params", "on", "duration"]) {
        let (path, at) = fields.get(key)?;
        reader.complain(&path, at, "does not go with wait", "wait alone");
    }
    let (wait_path, at) = fields.get("wait")?;
    let length = reader.duration(&wait_path, at)?;
    if length > LONGEST {
        reader.complain(&wait_path, at, format!("{length} is too long"), format!("..{LONGEST}"));
        return None;
    }
    Some(WishedStep::Wait {
        path: path.to_owned(),
        ms: length.0,
    })
}

/// Parameters are any values; only what could not be told apart later is refused here.
fn params(reader: &mut Reader, path: &str, at: &Located) -> Option<Map<String, Value>> {
    once(reader, path, at);
    match at.value.to_json() {
        Value::Object(params) => Some(params),
        Value::Null => Some(Map::new()),
        _ => {
            reader.complain(path, at, format!("is {}", at.value.name()), "a mapping of parameters");
            None
        }
    }
}

/// Keys written twice, at any depth.
fn once(reader: &mut Reader, path: &str, at: &Located) {
    match &at.value {
        Node::Map(entries) => {
            for (i, (key, value)) in entries.iter().enumerate() {
                let here = super::tree::child(path, &key.value);
                if entries[..i].iter().any(|(other, _)| other.value == key.value) {
                    let (line, column) = place(key);
                    reader.push(Problem::new(&here, format!("key {:?} is written twice", key.value)).at(line, column));
                }
                once(reader, &here, value);
            }
        }
        Node::List(items) => {
            for (i, item) in items.iter().enumerate() {
                once(reader, &format!("{path}[{i}]"), item);
            }
        }
        _ => {}
    }
}

fn target(reader: &mut Reader, path: &str, at: &Located) -> Option<WishedTarget> {
    let fields = reader.fields(path, at, &["labels", "hosts", "all", "pick", "spread", "seed"])?;
    let ways = fields.among(&["labels", "hosts", "all"]);
    let selectors = match ways.as_slice() {
        ["labels"] => labels(reader, &fields),
        ["hosts"] => hosts(reader, &fields),
        ["all"] => all(reader, &fields),
        [] => {
            reader.complain(
                path,
                at,
                "says of no host that it is meant",
                "exactly one of labels, hosts, all: true",
            );
            None
        }
        several => {
            reader.complain(
                path,
                at,
                format!("says {} at once", several.join(" and ")),
                "exactly one of labels, hosts, all: true",
            );
            None
        }
    };
    let pick = pick(reader, &fields);
    Some(WishedTarget {
        selectors: selectors?,
        pick: pick?,
    })
}

/// One selector, or a list of which any may match.
fn labels(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<Selector>> {
    let (path, at) = fields.get("labels")?;
    if !matches!(at.value, Node::List(_)) {
        return Some(vec![reader.selector(&path, at)?]);
    }
    let items = reader.items(&path, at, "selectors");
    if items.is_empty() {
        reader.complain(&path, at, "is empty", "at least one selector");
        return None;
    }
    items
        .iter()
        .enumerate()
        .map(|(i, item)| reader.selector(&format!("{path}[{i}]"), item))
        .collect()
}

fn hosts(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<Selector>> {
    let (path, at) = fields.get("hosts")?;
    let items = reader.items(&path, at, "hosts' names");
    if items.is_empty() {
        if matches!(at.value, Node::List(_)) {
            reader.complain(&path, at, "is empty", "at least one host's name");
        }
        return None;
    }
    let mut selectors = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let text = reader.text(&path, item)?;
        match proto_model::id::HostName::parse(&text) {
            Ok(name) => selectors.push(Selector::Terms(vec![Term::Name(name)])),
            Err(error) => reader.complain(&path, item, format!("{text:?} is not a host's name"), error.expected),
        }
    }
    Some(selectors)
}

fn all(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<Selector>> {
    let (path, at) = fields.get("all")?;
    if at.value == Node::Bool(true) {
        return Some(vec![Selector::All]);
    }
    reader.complain(&path, at, format!("is {}", at.value.name()), "true");
    None
}

/// `Some(None)`: no pick, which is right; `None`: a problem.
fn pick(reader: &mut Reader, fields: &Fields<'_>) -> Option<Option<WishedPick>> {
    let spread = match fields.get("spread") {
        Some((path, at)) => Some(label(reader, &path, at)?),
        None => None,
    };
    let seed = match fields.get("seed") {
        Some((path, at)) => Some(reader.number(&path, at)?),
        None => None,
    };
    let Some((path, at)) = fields.get("pick") else {
        for key in fields.among(&["spread", "seed"]) {
            let (path, at) = fields.get(key)?;
            reader.complain(&path, at, "chooses among hosts, and nothing is picked", "together with pick");
        }
        return Some(None);
    };
    let text = match &at.value {
        Node::Text(text) => text.clone(),
        Node::Number(number) => number.to_string(),
        _ => String::new(),
    };
    match Pick::parse(&text) {
        Ok(count) => Some(Some(WishedPick { count, spread, seed })),
        Err(error) => {
            reader.complain(&path, at, format!("{} is not a pick", at.value.name()), error.expected);
            None
        }
    }
}

fn label(reader: &mut Reader, path: &str, at: &Located) -> Option<String> {
    let text = reader.text(path, at)?;
    match selector::key(&text) {
        Ok(key) => Some(key),
        Err(_) => {
            reader.complain(path, at, format!("{text:?} is not a label"), "a label's key, such as zone");
            None
        }
    }
}
