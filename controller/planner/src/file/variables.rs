//! Variables of a file: declared with types, set from outside, written into the tree before it is read. Nothing is computed.

use std::collections::BTreeMap;

use controller_reader::{Located, Node, Reader, child, place};
use proto_model::catalogue::nearest;
use proto_model::problem::Problem;
use proto_model::quantity::{Bytes, Millis, Percent};
use serde_json::{Number, Value};

const SECTION: &str = "variables";
const MOST_VARIABLES: usize = 100;
const NAME_LENGTH: usize = 63;
pub(super) const VARIABLE_KEYS: [&str; 3] = ["type", "default", "says"];
const SHAPE: &str = "${name}, with $${ for ${ itself";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Text,
    Number,
    Integer,
    Boolean,
    Percent,
    Duration,
    Size,
}

const SORTS: [(&str, Sort); 7] = [
    ("text", Sort::Text),
    ("number", Sort::Number),
    ("integer", Sort::Integer),
    ("boolean", Sort::Boolean),
    ("percent", Sort::Percent),
    ("duration", Sort::Duration),
    ("size", Sort::Size),
];

/// Gives every variable its value and puts the values where they are used. Answers the values, by name.
pub(super) fn settle(reader: &mut Reader, tree: &mut Located, file_name: &str, set: &BTreeMap<String, String>) -> BTreeMap<String, Value> {
    let declared = match section(tree) {
        Some(section) => declared(reader, section, set),
        None => BTreeMap::new(),
    };
    let at = section(tree).map(place);
    for key in set.keys().filter(|key| !declared.contains_key(*key)) {
        reader.push(stranger(key, file_name, &declared, at));
    }
    // A variable without a value is told of once, where it is declared.
    if reader.is_fine() {
        fill(reader, "", tree, &declared);
    }
    let values = declared.into_iter().filter_map(|(name, node)| Some((name, node?.to_json())));
    values.collect()
}

fn section(tree: &Located) -> Option<&Located> {
    let Node::Map(entries) = &tree.value else { return None };
    entries.iter().find(|(key, _)| key.value == SECTION).map(|(_, at)| at)
}

fn stranger(key: &str, file_name: &str, declared: &BTreeMap<String, Option<Node>>, at: Option<(u64, u64)>) -> Problem {
    let names = || declared.keys().map(String::as_str);
    let hint = nearest(key, names()).map(|near| format!("; did you mean {near}?"));
    let mut problem = Problem::new(
        format!("set.{key}"),
        format!("{file_name} declares no variable {key}{}", hint.unwrap_or_default()),
    );
    let known = names().collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() {
        "none: the file has no variables".to_owned()
    } else {
        known
    };
    problem = problem.allowed(known);
    match at {
        Some((line, column)) => problem.at(line, column),
        None => problem,
    }
}

/// By name; without a value where something was wrong with it.
fn declared(reader: &mut Reader, at: &Located, set: &BTreeMap<String, String>) -> BTreeMap<String, Option<Node>> {
    let Node::Map(entries) = &at.value else {
        reader.complain(SECTION, at, format!("is {}", at.value.name()), "a mapping of names to defaults");
        return BTreeMap::new();
    };
    if entries.len() > MOST_VARIABLES {
        reader.complain(
            SECTION,
            at,
            format!("has {} variables", entries.len()),
            format!("..{MOST_VARIABLES}"),
        );
        return BTreeMap::new();
    }
    let mut declared = BTreeMap::new();
    for (key, at) in entries {
        let (name, path) = (key.value.as_str(), child(SECTION, &key.value));
        let (line, column) = place(key);
        if !is_name(name) {
            let allowed = format!("a letter, then letters, digits and '_', at most {NAME_LENGTH}");
            reader.push(
                Problem::new(&path, format!("{name:?} is no variable's name"))
                    .allowed(allowed)
                    .at(line, column),
            );
        } else if declared.contains_key(name) {
            reader.push(Problem::new(&path, format!("key {name:?} is written twice")).at(line, column));
        } else {
            let value = variable(reader, &path, at, set.get(name));
            declared.insert(name.to_owned(), value);
        }
    }
    declared
}

fn is_name(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= NAME_LENGTH && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(rest)
}

fn variable(reader: &mut Reader, path: &str, at: &Located, set: Option<&String>) -> Option<Node> {
    let (sort, default) = declaration(reader, path, at)?;
    let name = path.rsplit('.').next().unwrap_or(path);
    match (set, default) {
        (Some(text), _) => {
            let read = sort.read(text);
            if read.is_none() {
                let message = format!("{text:?}, as it was set, is no {}", sort.word());
                reader.complain(path, at, message, format!("--set {name}={}", sort.example()));
            }
            read
        }
        (None, Some(default)) => Some(default),
        (None, None) => {
            reader.complain(
                path,
                at,
                "has no default and was not set",
                format!("--set {name}={}", sort.example()),
            );
            None
        }
    }
}

/// A default alone, whose type is what it looks like; or type, default and what it is for.
fn declaration(reader: &mut Reader, path: &str, at: &Located) -> Option<(Sort, Option<Node>)> {
    if !matches!(at.value, Node::Map(_)) {
        let sort = Sort::of(&at.value);
        if sort.is_none() {
            reader.complain(path, at, format!("is {}", at.value.name()), "a default, or type and default");
        }
        return sort.map(|sort| (sort, Some(at.value.clone())));
    }
    let fields = reader.fields(path, at, &VARIABLE_KEYS)?;
    let says = fields.get("says").is_none_or(|(path, at)| reader.text(&path, at).is_some());
    let (type_path, type_at) = reader.required(&fields, "type")?;
    let word = reader.text(&type_path, type_at)?;
    let Some((_, sort)) = SORTS.iter().find(|(name, _)| *name == word) else {
        let words = SORTS.map(|(name, _)| name).join(", ");
        reader.complain(&type_path, type_at, format!("{word:?} is no type"), words);
        return None;
    };
    let Some((path, at)) = fields.get("default") else {
        return says.then_some((*sort, None));
    };
    let default = match &at.value {
        Node::Text(text) => sort.read(text).filter(|node| matches!(node, Node::Text(_))),
        Node::Number(number) if *sort == Sort::Percent => sort.read(&number.to_string()),
        other => Some(other.clone()).filter(|other| Sort::of(other).is_some_and(|found| sort.takes(found))),
    };
    if default.is_none() {
        reader.complain(&path, at, format!("{} is no {}", at.value.name(), sort.word()), sort.example());
    }
    Some((*sort, Some(default?))).filter(|_| says)
}

impl Sort {
    fn of(node: &Node) -> Option<Self> {
        match node {
            Node::Bool(_) => Some(Self::Boolean),
            Node::Number(number) if number.is_f64() => Some(Self::Number),
            Node::Number(_) => Some(Self::Integer),
            Node::Text(text) if Millis::parse(text).is_ok() => Some(Self::Duration),
            Node::Text(text) if Bytes::parse(text).is_ok() => Some(Self::Size),
            Node::Text(text) if text.ends_with('%') && Percent::parse(text).is_ok() => Some(Self::Percent),
            Node::Text(_) => Some(Self::Text),
            Node::Null | Node::List(_) | Node::Map(_) => None,
        }
    }

    fn takes(self, found: Self) -> bool {
        self == found || (self == Self::Number && found == Self::Integer)
    }

    /// A text as a value of this type.
    fn read(self, text: &str) -> Option<Node> {
        let kept = || Node::Text(text.to_owned());
        match self {
            Self::Text => Some(kept()),
            Self::Duration => Millis::parse(text).ok().map(|_| kept()),
            Self::Size => Bytes::parse(text).ok().map(|_| kept()),
            Self::Percent => Percent::parse(text).ok().map(|percent| Node::Text(format!("{}%", percent.0))),
            Self::Integer => whole(text).map(Node::Number),
            Self::Number => whole(text).or_else(|| fraction(text)).map(Node::Number),
            Self::Boolean => match text {
                "true" => Some(Node::Bool(true)),
                "false" => Some(Node::Bool(false)),
                _ => None,
            },
        }
    }

    fn word(self) -> &'static str {
        SORTS.iter().find(|(_, sort)| *sort == self).map_or("value", |(name, _)| name)
    }

    fn example(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Number => "1.5",
            Self::Integer => "3",
            Self::Boolean => "true",
            Self::Percent => "60%",
            Self::Duration => "200ms",
            Self::Size => "512MiB",
        }
    }
}

fn whole(text: &str) -> Option<Number> {
    let unsigned = text.parse::<u64>().map(Number::from);
    unsigned.or_else(|_| text.parse::<i64>().map(Number::from)).ok()
}

fn fraction(text: &str) -> Option<Number> {
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

/// Values into every text but those of the section itself; keys stay as they are.
fn fill(reader: &mut Reader, path: &str, at: &mut Located, values: &BTreeMap<String, Option<Node>>) {
    let (line, column) = place(at);
    match &mut at.value {
        Node::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                fill(reader, &format!("{path}[{i}]"), item, values);
            }
        }
        Node::Map(entries) => {
            let entries = entries.iter_mut().filter(|(key, _)| !path.is_empty() || key.value != SECTION);
            for (key, value) in entries {
                fill(reader, &child(path, &key.value), value, values);
            }
        }
        Node::Text(text) if text.contains("${") => match written(text, values) {
            Ok(node) => at.value = node,
            Err((message, allowed)) => reader.push(Problem::new(path, message).allowed(allowed).at(line, column)),
        },
        _ => {}
    }
}

/// A text that is one variable becomes its value, with its type; in a longer text the value is a part of the text.
fn written(text: &str, values: &BTreeMap<String, Option<Node>>) -> Result<Node, (String, String)> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        let Some((name, after)) = from[2..].split_once('}') else {
            return Err((format!("{text:?} opens a variable and does not close it"), SHAPE.to_owned()));
        };
        let Some(value) = values.get(name) else {
            let hint = nearest(name, values.keys().map(String::as_str)).map(|near| format!("; did you mean {near}?"));
            let known: Vec<&str> = values.keys().map(String::as_str).collect();
            let allowed = if known.is_empty() {
                "none is declared; ".to_owned() + SHAPE
            } else {
                known.join(", ")
            };
            return Err((format!("no variable {name:?} is declared{}", hint.unwrap_or_default()), allowed));
        };
        let value = value.clone().unwrap_or(Node::Null);
        if before.is_empty() && after.is_empty() && out.is_empty() {
            return Ok(value);
        }
        out.push_str(before);
        match value {
            Node::Text(text) => out.push_str(&text),
            other => out.push_str(&other.to_json().to_string()),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(Node::Text(out))
}
