//! YAML as a tree in which every node knows its line and column. It gives no node a meaning.

use std::collections::BTreeMap;
use std::fmt;

use proto_model::problem::Problem;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};

/// Longest file.
const MAX_BYTES: usize = 256 * 1024;
/// Nodes of a file, aliases written out.
const MAX_NODES: usize = 20_000;
const MAX_DEPTH: usize = 32;

pub type Located = Spanned<Node>;

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Located>),
    /// In the file's order; keys may repeat, which is for the reader to refuse.
    Map(Vec<(Spanned<String>, Located)>),
}

pub fn parse(text: &str, file_name: &str) -> Result<Located, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem::new("", format!("{file_name} has {} bytes", text.len())).allowed(format!("..{MAX_BYTES}")));
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let error = error.without_snippet();
        let problem = Problem::new("", words(&error.to_string()));
        match error.location() {
            Some(place) => indented_by_tab(text, place.line()).unwrap_or(problem.at(place.line(), place.column())),
            None => problem,
        }
    })
}

/// A tab that indents is the commonest cause of all, and is reported where the scanner began, not where the tab is.
fn indented_by_tab(text: &str, from_line: u64) -> Option<Problem> {
    let from = usize::try_from(from_line.saturating_sub(1)).ok()?;
    let (line, column) = text.lines().enumerate().skip(from).take(2).find_map(|(line, content)| {
        let indent = content.len() - content.trim_start().len();
        Some((line, content[..indent].find('\t')?))
    })?;
    let problem = Problem::new("", "is indented by a tab").allowed("spaces");
    Some(problem.at(line as u64 + 1, column as u64 + 1))
}

fn options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_events = 4 * MAX_NODES;
    budget.max_documents = 1;
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = MAX_NODES;
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.merge_keys = MergeKeyPolicy::Error;
    options.strict_booleans = true;
    options.leading_zero_numbers_as_strings = true;
    options.underscored_numbers_as_strings = true;
    options.non_finite_float_policy = NonFiniteFloatPolicy::AsString;
    options.with_snippet = false;
    options
}

/// The library's sentence without its place, which the problem carries, and without its line breaks.
fn words(message: &str) -> String {
    let line = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    match line.rfind(" at line ") {
        Some(end) => line[..end].to_owned(),
        None => line.to_owned(),
    }
}

/// Line and column of the value at each path.
pub fn places(tree: &Located) -> BTreeMap<String, (u64, u64)> {
    let mut places = BTreeMap::new();
    walk("", tree, &mut places);
    places
}

fn walk(path: &str, at: &Located, places: &mut BTreeMap<String, (u64, u64)>) {
    places.insert(path.to_owned(), place(at));
    match &at.value {
        Node::List(items) => {
            for (i, item) in items.iter().enumerate() {
                walk(&format!("{path}[{i}]"), item, places);
            }
        }
        Node::Map(entries) => {
            for (key, value) in entries {
                walk(&child(path, &key.value), value, places);
            }
        }
        _ => {}
    }
}

pub fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Where a person would look: where it is used, not where an alias took it from.
pub fn place<T>(at: &Spanned<T>) -> (u64, u64) {
    (at.referenced.line(), at.referenced.column())
}

impl Node {
    pub fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(b) => Value::Bool(*b),
            Self::Number(n) => Value::Number(n.clone()),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Map(entries) => {
                let pairs = entries.iter().map(|(key, at)| (key.value.clone(), at.value.to_json()));
                Value::Object(pairs.collect())
            }
        }
    }

    /// What it is, for a sentence that says what was found.
    pub fn name(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(b) => b.to_string(),
            Self::Number(n) => n.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a mapping".into(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, a list, a text or a number")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("is no number that can be used"))?;
        Ok(Node::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            if entries.len() == MAX_NODES {
                return Err(A::Error::custom("has too many keys"));
            }
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}
