//! `key=value` parameters of a fault, split and grouped; the target's own catalogue gives them their types.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::failure::Failure;

/// One `key=value`, split at the first `=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    key: String,
    value: String,
}

impl std::str::FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not key=value"))?;
        let named = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
        if key.is_empty() || !named {
            return Err(format!("{key:?} is not the name of a parameter"));
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// As a JSON object: texts as typed, a repeated key as a list of texts, JSON checked but left as text.
pub fn to_json(pairs: &[Pair]) -> Result<Value, Failure> {
    let mut grouped: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for pair in pairs {
        grouped.entry(&pair.key).or_default().push(value(pair)?);
    }
    let single = |mut values: Vec<Value>| match values.len() {
        1 => values.remove(0),
        _ => Value::Array(values),
    };
    Ok(grouped.into_iter().map(|(key, values)| (key.to_owned(), single(values))).collect())
}

fn value(pair: &Pair) -> Result<Value, Failure> {
    if !pair.value.starts_with(['[', '{']) {
        return Ok(Value::from(pair.value.as_str()));
    }
    let checked: Result<Value, _> = serde_json::from_str(&pair.value);
    checked
        .map(|_| Value::from(pair.value.as_str()))
        .map_err(|error| Failure::usage(format!("{} begins like JSON and is none: {error}", pair.key)))
}

/// `key=value` settings of a file's variables; a key twice is a mistake.
pub fn settings(pairs: &[Pair]) -> Result<BTreeMap<String, String>, Failure> {
    let mut set = BTreeMap::new();
    for pair in pairs {
        if set.insert(pair.key.clone(), pair.value.clone()).is_some() {
            return Err(Failure::usage(format!("{} is set twice", pair.key)));
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pairs(texts: &[&str]) -> Vec<Pair> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn split_at_the_first_equals_sign_and_left_untyped() {
        let read = to_json(&pairs(&["percent=60%", "to=role=cache", "to=10.0.0.0/8", "ports=80,8000-8100"])).unwrap();
        assert_eq!(
            read,
            json!({"percent": "60%", "to": ["role=cache", "10.0.0.0/8"], "ports": "80,8000-8100"})
        );
    }

    #[test]
    fn json_is_json_or_a_mistake() {
        assert_eq!(to_json(&pairs(&["ports=[80, 81]"])).unwrap(), json!({"ports": "[80, 81]"}));
        assert_eq!(to_json(&pairs(&["ports=[80"])).unwrap_err().exit, 2);
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        for bad in ["percent", "=60", "a b=1"] {
            assert!(bad.parse::<Pair>().is_err(), "{bad}");
        }
        assert_eq!(settings(&pairs(&["a=1", "a=2"])).unwrap_err().exit, 2);
    }
}
