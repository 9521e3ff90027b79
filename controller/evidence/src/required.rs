//! The required tests of a service file: an experiment's name, and what a run of it must be to count.

use std::collections::BTreeMap;

use controller_reader::{Fields, Located, Node, Reader, child};
use proto_model::quantity::Millis;
use proto_model::required_test::{DEFAULT_MIN_INTERVAL_MS, RequiredTest, VariableBounds, is_quantity};
use serde_json::Value;

/// Tests of one dependency, and variables of one test.
const MOST: usize = 200;
const DIGEST_FORM: &str = "sha256: and 64 hexadecimal digits, as `fracas plan FILE` shows it";
const BOUNDS: [&str; 5] = ["above", "at_least", "equals", "at_most", "below"];

/// The tests of a critical dependency, of which there is at least one.
pub(crate) fn tests(reader: &mut Reader, fields: &Fields<'_>) -> Option<Vec<RequiredTest>> {
    let (path, at) = reader.required(fields, "tests")?;
    let items = reader.items(&path, at, "required tests");
    if matches!(at.value, Node::List(_)) && !(1..=MOST).contains(&items.len()) {
        let message = if items.is_empty() {
            "is empty".to_owned()
        } else {
            format!("has {} entries", items.len())
        };
        reader.complain(&path, at, message, format!("1 to {MOST} required tests"));
        return None;
    }
    let read = items.iter().enumerate();
    let tests: Vec<RequiredTest> = read.filter_map(|(i, item)| test(reader, &format!("{path}[{i}]"), item)).collect();
    for (i, test) in tests.iter().enumerate() {
        if tests[..i].iter().any(|other| other.name == test.name) {
            reader.complain(&path, at, format!("{:?} is written twice", test.name), "each once");
        }
    }
    Some(tests)
}

/// `{ name, digest, variables, min_interval }`; a name alone could be given to anything.
pub(crate) fn test(reader: &mut Reader, path: &str, at: &Located) -> Option<RequiredTest> {
    if let Node::Text(name) = &at.value {
        let allowed = format!("{{ name: {name}, digest: sha256:... }} or {{ name: {name}, variables: {{ NAME: {{ at_least: VALUE }} }} }}");
        reader.complain(path, at, "is a name alone, which does not say what the test is", allowed);
        return None;
    }
    let fields = reader.fields(path, at, &["name", "digest", "variables", "min_interval"])?;
    let name = reader.required(&fields, "name").and_then(|(path, at)| reader.text(&path, at));
    let digest = match fields.get("digest") {
        Some((path, at)) => Some(digest(reader, &path, at)?),
        None => None,
    };
    let variables = match fields.get("variables") {
        Some((path, at)) => variables(reader, &path, at)?,
        None => BTreeMap::new(),
    };
    let min_interval = match fields.get("min_interval") {
        Some((path, at)) => reader.duration_or_zero(&path, at)?,
        None => Millis(DEFAULT_MIN_INTERVAL_MS),
    };
    if digest.is_none() && variables.is_empty() {
        reader.complain(path, at, "does not say what the test is", "digest, or bounds on variables, or both");
        return None;
    }
    Some(RequiredTest {
        name: name?,
        digest,
        variables,
        min_interval_ms: min_interval.0,
    })
}

fn digest(reader: &mut Reader, path: &str, at: &Located) -> Option<String> {
    let text = reader.text(path, at)?;
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Some(text);
    }
    reader.complain(path, at, format!("{text:?} is not a digest"), DIGEST_FORM);
    None
}

fn variables(reader: &mut Reader, path: &str, at: &Located) -> Option<BTreeMap<String, VariableBounds>> {
    let Node::Map(entries) = &at.value else {
        reader.complain(path, at, format!("is {}", at.value.name()), "a mapping of variables to bounds");
        return None;
    };
    let mut found = BTreeMap::new();
    for (name, value) in entries.iter().take(MOST) {
        let here = child(path, &name.value);
        let bounds = bounds(reader, &here, value)?;
        if found.insert(name.value.clone(), bounds).is_some() {
            reader.complain(&here, value, "is written twice", "each once");
        }
    }
    Some(found)
}

/// A scalar alone is what the value must be.
fn bounds(reader: &mut Reader, path: &str, at: &Located) -> Option<VariableBounds> {
    let scalar = |at: &Located| match &at.value {
        Node::Bool(_) | Node::Number(_) | Node::Text(_) => Some(at.value.to_json()),
        _ => None,
    };
    if let Some(equals) = scalar(at) {
        return Some(VariableBounds {
            equals: Some(equals),
            ..VariableBounds::default()
        });
    }
    let fields = reader.fields(path, at, &BOUNDS)?;
    let mut fine = true;
    let [above, at_least, equals, at_most, below]: [Option<Value>; 5] = BOUNDS.map(|key| {
        let (path, at) = fields.get(key)?;
        let value = scalar(at).filter(|value| key == "equals" || is_quantity(value));
        if value.is_none() {
            reader.complain(
                &path,
                at,
                format!("is {}", at.value.name()),
                "a number or an amount, such as 0.5, 60%, 100ms or 1GiB",
            );
            fine = false;
        }
        value
    });
    let bounds = VariableBounds {
        above,
        at_least,
        equals,
        at_most,
        below,
    };
    if fine && bounds == VariableBounds::default() {
        reader.complain(path, at, "has no bound", BOUNDS.join(", "));
        return None;
    }
    fine.then_some(bounds)
}
