//! Selectors over hosts: parsed once, evaluated on labels and facts; nothing means "everything" by being left out.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::HostName;

/// Why a text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("selector {text:?}: {why}")]
pub struct InvalidSelector {
    pub text: String,
    pub why: String,
}

/// `all`, or terms that must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    All,
    Terms(Vec<Term>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    Name(HostName),
    Equal(String, String),
    NotEqual(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    HasNot(String),
}

impl Selector {
    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        let fail = |why: String| InvalidSelector {
            text: text.to_owned(),
            why,
        };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(fail("is empty; write \"all\" for every host".into()));
        }
        if trimmed == "all" {
            return Ok(Self::All);
        }
        split_terms(trimmed)
            .into_iter()
            .map(|term| Term::parse(term.trim()).map_err(&fail))
            .collect::<Result<_, _>>()
            .map(Self::Terms)
    }

    /// Whether a host is meant. `labels` holds labels and, under `fact.`, what the host says of itself.
    pub fn matches(&self, name: &HostName, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::All => true,
            Self::Terms(terms) => terms.iter().all(|term| term.matches(name, labels)),
        }
    }

    /// Whether only facts narrow it: facts may narrow a label or a name, never stand alone.
    pub fn only_facts(&self) -> bool {
        match self {
            Self::All => false,
            Self::Terms(terms) => terms.iter().all(|term| term.key().is_some_and(|key| key.starts_with("fact."))),
        }
    }

    pub fn uses_facts(&self) -> bool {
        match self {
            Self::All => false,
            Self::Terms(terms) => terms.iter().any(|term| term.key().is_some_and(|key| key.starts_with("fact."))),
        }
    }
}

/// Splits at commas that are not inside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

impl Term {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("has an empty term".into());
        }
        if let Some(inner) = text.strip_prefix("!has(").and_then(|t| t.strip_suffix(')')) {
            return key(inner).map(Self::HasNot);
        }
        if let Some(inner) = text.strip_prefix("has(").and_then(|t| t.strip_suffix(')')) {
            return key(inner).map(Self::Has);
        }
        for (word, negated) in [(" notin (", true), (" in (", false)] {
            if let Some((name, rest)) = text.split_once(word) {
                let values = rest.strip_suffix(')').ok_or("lacks its closing parenthesis")?;
                let values = values.split(',').map(|v| value(v.trim())).collect::<Result<Vec<_>, _>>()?;
                let name = key(name)?;
                return Ok(if negated {
                    Self::NotIn(name, values)
                } else {
                    Self::In(name, values)
                });
            }
        }
        if let Some((name, text)) = text.split_once("!=") {
            return Ok(Self::NotEqual(key(name)?, value(text)?));
        }
        if let Some((name, text)) = text.split_once('=') {
            return Ok(Self::Equal(key(name)?, value(text)?));
        }
        HostName::parse(text).map(Self::Name).map_err(|e| e.to_string())
    }

    fn key(&self) -> Option<&str> {
        match self {
            Self::Name(_) => None,
            Self::Equal(k, _) | Self::NotEqual(k, _) | Self::In(k, _) | Self::NotIn(k, _) | Self::Has(k) | Self::HasNot(k) => Some(k),
        }
    }

    fn matches(&self, name: &HostName, labels: &BTreeMap<String, String>) -> bool {
        let is = |k: &String, v: &String| labels.get(k) == Some(v);
        match self {
            Self::Name(wanted) => wanted == name,
            Self::Equal(k, v) => is(k, v),
            Self::NotEqual(k, v) => !is(k, v),
            Self::In(k, values) => values.iter().any(|v| is(k, v)),
            Self::NotIn(k, values) => !values.iter().any(|v| is(k, v)),
            Self::Has(k) => labels.contains_key(k),
            Self::HasNot(k) => !labels.contains_key(k),
        }
    }
}

/// A label's key: what a person may write on the left of `=`.
pub fn key(text: &str) -> Result<String, String> {
    let text = text.trim();
    let ok = !text.is_empty() && text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if ok {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not a label key: expected 1 to 63 of letters, digits, '-', '_', '.', '/'"
        ))
    }
}

/// A label's value: what a person may write on the right of `=`.
pub fn value(text: &str) -> Result<String, String> {
    let text = text.trim();
    let ok = !text.is_empty() && text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b));
    if ok {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is not a label value: expected 1 to 63 of letters, digits, '-', '_', '.', ':', '/'"
        ))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Terms(terms) => f.write_str(&terms.iter().map(Term::to_string).collect::<Vec<_>>().join(",")),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Equal(k, v) => write!(f, "{k}={v}"),
            Self::NotEqual(k, v) => write!(f, "{k}!={v}"),
            Self::In(k, v) => write!(f, "{k} in ({})", v.join(",")),
            Self::NotIn(k, v) => write!(f, "{k} notin ({})", v.join(",")),
            Self::Has(k) => write!(f, "has({k})"),
            Self::HasNot(k) => write!(f, "!has({k})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn terms_must_all_hold() {
        let web = HostName::parse("web").unwrap();
        let l = labels(&[("role", "web"), ("zone", "a")]);
        for (text, expected) in [
            ("all", true),
            ("web", true),
            ("cache", false),
            ("role=web,zone=a", true),
            ("role=web,zone=b", false),
            ("role!=cache", true),
            ("role in (web,cache),has(zone)", true),
            ("role notin (web)", false),
            ("!has(zone)", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&web, &l), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_not_everything() {
        for bad in ["", " ", "role=", "=web", "role in (web", "a,,b", "role=web,"] {
            assert!(Selector::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_printed_parses_to_the_same() {
        for text in ["all", "web", "role=web,zone in (a,b),!has(x)"] {
            let parsed = Selector::parse(text).unwrap();
            assert_eq!(Selector::parse(&parsed.to_string()).unwrap(), parsed);
        }
    }
}
