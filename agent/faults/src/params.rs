//! Parameters: from JSON, strictly, with the path of what is wrong; and their schema, for help and forms.

use proto_model::problem::{Problem, Problems};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Parses an object strictly: unknown keys, wrong types and values out of range are named with their path.
pub fn parse_params<P: DeserializeOwned + JsonSchema>(params: &Value) -> Result<P, Problems> {
    let schema = schema_of::<P>();
    let mut problems = Problems::default();
    let Some(object) = params.as_object() else {
        return Err(Problems::one(Problem::new("params", "expected an object of parameters")));
    };
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, value) in object {
        match properties.get(key) {
            None => problems.push(unknown(key, &properties)),
            Some(property) => check_range(key, value, property, &mut problems),
        }
    }
    problems.into_result()?;
    serde_json::from_value(params.clone()).map_err(|e| Problems::one(explain::<P>(&e, object, &properties)))
}

/// The schema of a kind's parameters: one object, everything inlined.
pub fn schema_of<P: JsonSchema>() -> Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12()
        .with(|s| s.inline_subschemas = true)
        .into_generator();
    generator.into_root_schema_for::<P>().to_value()
}

fn unknown(key: &str, properties: &Map<String, Value>) -> Problem {
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    let hint = proto_model::catalogue::nearest(key, names.iter().copied())
        .map(|n| format!("; did you mean {n}?"))
        .unwrap_or_default();
    Problem::new(format!("params.{key}"), format!("unknown parameter{hint}")).allowed(names.join(", "))
}

fn check_range(key: &str, value: &Value, property: &Value, problems: &mut Problems) {
    let Some(number) = number_in(value, property) else { return };
    let bound = |name: &str| property.get(name).and_then(Value::as_f64);
    let (low, high) = (bound("minimum"), bound("maximum"));
    if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
        let text = |b: Option<f64>| b.map(|b| b.to_string()).unwrap_or_default();
        problems.push(
            Problem::new(format!("params.{key}"), format!("{number} is out of range")).allowed(format!("{}..{}", text(low), text(high))),
        );
    }
}

/// The number that a value stands for: itself, or a text such as `60` or `60%` where a number is expected.
fn number_in(value: &Value, property: &Value) -> Option<f64> {
    let numeric = property.get("type").and_then(Value::as_str) == Some("number");
    match value {
        Value::String(text) if numeric => text.trim().trim_end_matches('%').parse().ok(),
        other => other.as_f64(),
    }
}

/// Serde names no path for a value that does not fit, so the culprit is the parameter without which it complains of something else.
fn explain<P: DeserializeOwned>(error: &serde_json::Error, object: &Map<String, Value>, properties: &Map<String, Value>) -> Problem {
    let message = error.to_string();
    if let Some(rest) = message.strip_prefix("missing field `") {
        let field = rest.split('`').next().unwrap_or_default();
        return Problem::new(format!("params.{field}"), "is required");
    }
    let without = |key: &str| {
        let rest = object.iter().filter(|(k, _)| *k != key).map(|(k, v)| (k.clone(), v.clone()));
        let parsed = serde_json::from_value::<P>(Value::Object(rest.collect()));
        parsed.err().map(|e| e.to_string()).unwrap_or_default()
    };
    // Serde misses a required parameter before it reads those of a flattened part, so that it is missed proves little.
    let suspects = || object.keys().map(|key| (key, without(key))).filter(|(_, other)| *other != message);
    let merely_missed = |key: &str, other: &str| other.starts_with(&format!("missing field `{key}`"));
    let proven = suspects().find(|(key, other)| !merely_missed(key, other));
    let Some((key, _)) = proven.or_else(|| suspects().next_back()) else {
        return Problem::new("params", message);
    };
    let problem = Problem::new(format!("params.{key}"), message);
    match properties.get(key).and_then(allowed_words) {
        Some(words) => problem.allowed(words),
        None => problem,
    }
}

/// The words that a property may be, when they are few and known.
fn allowed_words(property: &Value) -> Option<String> {
    let alternatives = ["oneOf", "anyOf"]
        .iter()
        .filter_map(|name| property.get(*name)?.as_array())
        .flatten();
    let words: Vec<&str> = std::iter::once(property)
        .chain(alternatives)
        .flat_map(|schema| {
            let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
            listed.chain(schema.get("const")).filter_map(Value::as_str)
        })
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Sample {
        #[schemars(range(min = 1, max = 10))]
        count: u32,
        way: Option<Way>,
        delay: Option<proto_model::quantity::Millis>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Way {
        In,
        Out,
    }

    fn problem(params: Value) -> Problem {
        parse_params::<Sample>(&params).unwrap_err().0.remove(0)
    }

    #[test]
    fn each_mistake_is_named_with_its_path_and_what_would_be_right() {
        assert_eq!(problem(json!({"count": 11})).allowed.as_deref(), Some("1..10"));
        assert_eq!(problem(json!({})).path, "params.count");
        assert_eq!(problem(json!({"count": 1, "way": "up"})).allowed.as_deref(), Some("in, out"));
        assert_eq!(problem(json!({"count": 1, "delay": "1"})).path, "params.delay");
        assert_eq!(problem(json!({"count": "x"})).path, "params.count");
        let stranger = problem(json!({"count": 1, "wayy": "in"}));
        assert!(stranger.message.contains("did you mean way?"), "{stranger}");
        assert_eq!(problem(json!([])).path, "params");
    }

    #[test]
    fn all_strangers_are_named_at_once() {
        let problems = parse_params::<Sample>(&json!({"a": 1, "b": 2})).unwrap_err();
        assert_eq!(problems.0.len(), 2);
    }
}
