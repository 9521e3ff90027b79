//! The steps of a file: one fault, one wait, or steps made of steps. Which kinds of fault there are is not known here.

use controller_reader::{Fields, Located, Node, Reader};
use proto_model::plan::OnFailure;
use proto_model::quantity::Pick;
use proto_model::selector::{self, Selector, Term};
use serde_json::{Map, Value};

use super::branches::{self, MOST_STEPS};
use super::once::once;
use crate::experiment::{LONGEST, WishedFault, WishedParams, WishedPick, WishedStep, WishedTarget};

pub(super) const STEP_KEYS: [&str; 9] = [
    "fault",
    "params",
    "on",
    "duration",
    "on_failure",
    "wait",
    "parallel",
    "steps",
    "repeat",
];
/// What makes a step, of which it has exactly one.
const BODIES: [&str; 4] = ["fault", "wait", "parallel", "steps"];
pub(super) const TARGET_KEYS: [&str; 6] = ["labels", "hosts", "all", "pick", "spread", "seed"];

/// The experiment's own steps, of which one at least injects.
pub(super) fn list(reader: &mut Reader, path: &str, at: &Located) -> Vec<WishedStep> {
    let wrong_before = reader.wrong();
    let steps = branches::inner(reader, path, at, branches::DEEPEST, step);
    let count: usize = steps.iter().map(WishedStep::leaves).sum();
    if count > MOST_STEPS {
        reader.complain(
            path,
            at,
            format!("has {count} steps, every round counted"),
            format!("..{MOST_STEPS}"),
        );
        return Vec::new();
    }
    let no_fault = steps.iter().all(|step| step.faults().is_empty());
    // Steps that could not be read may well have been meant to inject.
    if no_fault && wrong_before == reader.wrong() {
        reader.complain(path, at, "injects nothing", "at least one step with a fault");
    }
    steps
}

/// One step, with `deeper` levels of steps that may be below it.
pub(super) fn step(reader: &mut Reader, path: &str, at: &Located, deeper: usize) -> Option<WishedStep> {
    let fields = reader.fields(path, at, &STEP_KEYS)?;
    let body = match fields.among(&BODIES).as_slice() {
        [] => {
            reader.complain(
                path,
                at,
                "says neither what to inject nor to wait",
                "one of fault, wait, parallel, steps",
            );
            return None;
        }
        [body] => *body,
        several => {
            let message = format!("says {} at once", several.join(" and "));
            reader.complain(path, at, message, "one of fault, wait, parallel, steps");
            return None;
        }
    };
    if body != "fault" {
        alone(reader, &fields, body)?;
    }
    let step = match body {
        "fault" => fault(reader, path, &fields).map(WishedStep::Fault),
        "wait" => wait(reader, path, &fields),
        "parallel" => branches::parallel(reader, path, &fields, deeper, step),
        _ => branches::group(reader, path, &fields, deeper, step),
    };
    branches::repeated(reader, path, &fields, step)
}

/// Without a fault there is nothing that its keys could be about.
fn alone(reader: &mut Reader, fields: &Fields<'_>, body: &str) -> Option<()> {
    let mut fine = Some(());
    for key in fields.among(&["params", "on", "duration", "on_failure"]) {
        let (path, at) = fields.get(key)?;
        reader.complain(&path, at, format!("does not go with {body}"), format!("{body} without {key}"));
        fine = None;
    }
    fine
}

fn fault(reader: &mut Reader, path: &str, fields: &Fields<'_>) -> Option<WishedFault> {
    let fault = fields.get("fault").and_then(|(path, at)| reader.text(&path, at));
    let params = match fields.get("params") {
        Some((path, at)) => params(reader, &path, at),
        None => Some(Map::new()),
    };
    let on = reader.required(fields, "on").and_then(|(path, at)| target(reader, &path, at));
    let on_failure = match fields.get("on_failure") {
        Some((path, at)) => on_failure(reader, &path, at),
        None => Some(OnFailure::Stop),
    };
    let duration = match fields.get("duration") {
        Some((path, at)) => Some(reader.duration(&path, at)?),
        None => None,
    };
    Some(WishedFault {
        path: path.to_owned(),
        fault: fault?,
        params: WishedParams::Typed(params?),
        on: on?,
        duration,
        on_failure: on_failure?,
    })
}

fn on_failure(reader: &mut Reader, path: &str, at: &Located) -> Option<OnFailure> {
    match &at.value {
        Node::Text(text) if text == "stop" => Some(OnFailure::Stop),
        Node::Text(text) if text == "continue" => Some(OnFailure::Continue),
        other => {
            reader.complain(path, at, format!("is {}", other.name()), "stop, continue");
            None
        }
    }
}

fn wait(reader: &mut Reader, path: &str, fields: &Fields<'_>) -> Option<WishedStep> {
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

fn target(reader: &mut Reader, path: &str, at: &Located) -> Option<WishedTarget> {
    let fields = reader.fields(path, at, &TARGET_KEYS)?;
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
