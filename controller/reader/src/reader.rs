//! Reading a tree field by field: what does not fit becomes a problem with its place, and reading goes on.

use std::collections::BTreeMap;

use proto_model::catalogue::nearest;
use proto_model::problem::{Problem, Problems};
use proto_model::quantity::{Millis, Percent};
use proto_model::selector::{self, Selector};

use crate::tree::{Located, Node, child, place};

/// Largest count a file may name.
const MOST: u64 = 1_000_000;

#[derive(Default)]
pub struct Reader {
    problems: Problems,
    places: BTreeMap<String, (u64, u64)>,
}

/// The fields of one mapping, each allowed and each once.
pub struct Fields<'t> {
    path: String,
    pub at: &'t Located,
    entries: Vec<(&'t str, &'t Located)>,
}

impl<'t> Fields<'t> {
    /// A field's path and value.
    pub fn get(&self, key: &str) -> Option<(String, &'t Located)> {
        let (_, at) = self.entries.iter().find(|(name, _)| *name == key)?;
        Some((self.child(key), at))
    }

    pub fn child(&self, key: &str) -> String {
        child(&self.path, key)
    }

    /// Those of the keys that are there.
    pub fn among<'k>(&self, keys: &[&'k str]) -> Vec<&'k str> {
        keys.iter().copied().filter(|key| self.get(key).is_some()).collect()
    }
}

impl Reader {
    /// Everything wrong, in the file's order.
    pub fn finish(mut self) -> Result<(), Problems> {
        self.problems.0.sort_by_key(|problem| (problem.line, problem.column));
        self.problems.into_result()
    }

    /// Goes on only when nothing was wrong so far.
    pub fn check(&mut self) -> Result<(), Problems> {
        if self.is_fine() { Ok(()) } else { std::mem::take(self).finish() }
    }

    /// How much is wrong so far.
    pub fn wrong(&self) -> usize {
        self.problems.0.len()
    }

    pub fn is_fine(&self) -> bool {
        self.problems.is_empty()
    }

    pub fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// For what is only seen after reading: the place was noted when the value was read.
    pub fn push_later(&mut self, path: String, message: String) {
        let place = self.places.get(&path).copied();
        let mut problem = Problem::new(path, message);
        if let Some((line, column)) = place {
            problem = problem.at(line, column);
        }
        self.push(problem);
    }

    pub fn complain(&mut self, path: &str, at: &Located, message: impl Into<String>, allowed: impl Into<String>) {
        let (line, column) = place(at);
        self.push(Problem::new(path, message).allowed(allowed).at(line, column));
    }

    fn expected(&mut self, path: &str, at: &Located, what: &str) {
        self.complain(path, at, format!("is {}", at.value.name()), what);
    }

    pub fn fields<'t>(&mut self, path: &str, at: &'t Located, allowed: &[&str]) -> Option<Fields<'t>> {
        let Node::Map(written) = &at.value else {
            self.expected(path, at, &format!("a mapping with {}", allowed.join(", ")));
            return None;
        };
        let mut entries: Vec<(&str, &Located)> = Vec::new();
        for (key, value) in written {
            let name = key.value.as_str();
            let (line, column) = place(key);
            let here = child(path, name);
            if entries.iter().any(|(other, _)| *other == name) {
                self.push(Problem::new(here, format!("key {name:?} is written twice")).at(line, column));
                continue;
            }
            if !allowed.contains(&name) {
                let hint = nearest(name, allowed.iter().copied()).map(|near| format!("; did you mean {near}?"));
                let message = format!("unknown key {name:?}{}", hint.unwrap_or_default());
                self.push(Problem::new(here, message).allowed(allowed.join(", ")).at(line, column));
                continue;
            }
            entries.push((name, value));
        }
        let path = path.to_owned();
        Some(Fields { path, at, entries })
    }

    pub fn required<'t>(&mut self, fields: &Fields<'t>, key: &str) -> Option<(String, &'t Located)> {
        let found = fields.get(key);
        if found.is_none() {
            let (line, column) = place(fields.at);
            self.push(Problem::new(fields.child(key), "is required").at(line, column));
        }
        found
    }

    pub fn items<'t>(&mut self, path: &str, at: &'t Located, what: &str) -> &'t [Located] {
        match &at.value {
            Node::List(items) => items,
            _ => {
                self.expected(path, at, &format!("a list of {what}"));
                &[]
            }
        }
    }

    pub fn text(&mut self, path: &str, at: &Located) -> Option<String> {
        self.places.insert(path.to_owned(), place(at));
        match &at.value {
            Node::Text(text) => Some(text.clone()),
            Node::Number(_) | Node::Bool(_) => {
                self.expected(path, at, "a text, in quotes");
                None
            }
            _ => {
                self.expected(path, at, "a text");
                None
            }
        }
    }

    pub fn label_value(&mut self, path: &str, at: &Located) -> Option<String> {
        let text = self.text(path, at)?;
        match selector::value(&text) {
            Ok(value) => Some(value),
            Err(_) => {
                self.complain(
                    path,
                    at,
                    format!("{text:?} is no name"),
                    "1 to 63 of letters, digits, '-', '_', '.', ':', '/'",
                );
                None
            }
        }
    }

    /// A duration that may be none at all: `0s`.
    pub fn duration_or_zero(&mut self, path: &str, at: &Located) -> Option<Millis> {
        match &at.value {
            Node::Text(text) if Millis::parse(text).is_ok_and(|d| d.0 == 0) => Some(Millis(0)),
            _ => self.duration(path, at),
        }
    }

    pub fn duration(&mut self, path: &str, at: &Located) -> Option<Millis> {
        let what = "a number and a unit, such as 200ms, 2s, 5m or 1h";
        let Node::Text(text) = &at.value else {
            self.expected(path, at, what);
            return None;
        };
        let parsed = Millis::parse(text).ok().filter(|d| d.0 > 0);
        if parsed.is_none() {
            self.complain(path, at, format!("{text:?} is not a duration"), what);
        }
        parsed
    }

    pub fn percent(&mut self, path: &str, at: &Located) -> Option<Percent> {
        let text = match &at.value {
            Node::Text(text) => text.clone(),
            Node::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let parsed = Percent::parse(&text).ok().filter(|p| p.0 > 0.0);
        if parsed.is_none() {
            self.complain(
                path,
                at,
                format!("{} is not a percent", at.value.name()),
                "more than 0 and at most 100, such as 60 or 60%",
            );
        }
        parsed
    }

    pub fn count(&mut self, path: &str, at: &Located, least: u32) -> Option<u32> {
        let number = match &at.value {
            Node::Number(number) => number.as_u64(),
            _ => None,
        };
        let fits = number
            .filter(|n| (u64::from(least)..=MOST).contains(n))
            .and_then(|n| u32::try_from(n).ok());
        if fits.is_none() {
            self.complain(
                path,
                at,
                format!("{} is not a count that fits", at.value.name()),
                format!("{least}..{MOST}"),
            );
        }
        fits
    }

    pub fn number(&mut self, path: &str, at: &Located) -> Option<u64> {
        let number = match &at.value {
            Node::Number(number) => number.as_u64(),
            _ => None,
        };
        if number.is_none() {
            self.expected(path, at, "a whole number, 0 or more");
        }
        number
    }

    pub fn selector(&mut self, path: &str, at: &Located) -> Option<Selector> {
        let text = self.text(path, at)?;
        match Selector::parse(&text) {
            Ok(selector) => match only_facts(path, &selector) {
                None => Some(selector),
                Some(problem) => {
                    let (line, column) = place(at);
                    self.push(problem.at(line, column));
                    None
                }
            },
            Err(error) => {
                self.complain(path, at, error.to_string(), "such as role=web,zone in (a,b), a host's name, or all");
                None
            }
        }
    }
}

/// Why a selector may not stand: facts are what a host says of itself, so they narrow but never choose alone.
pub fn only_facts(path: &str, selector: &Selector) -> Option<Problem> {
    selector.only_facts().then(|| {
        Problem::new(path, format!("selector {selector} uses only facts, which a host states itself"))
            .allowed("a label or a name, narrowed by facts")
    })
}
