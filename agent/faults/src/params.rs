//! Parameters: from JSON, strictly, with the path of what is wrong; and their schema, for help and forms.

use proto_model::problem::{Problem, Problems};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

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
    serde_json::from_value(params.clone()).map_err(|e| Problems::one(explain(&e, object, &properties)))
}

/// The schema of a kind's parameters: one object, everything inlined.
pub fn schema_of<P: JsonSchema>() -> Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12()
        .with(|s| s.inline_subschemas = true)
        .into_generator();
    generator.into_root_schema_for::<P>().to_value()
}

fn unknown(key: &str, properties: &serde_json::Map<String, Value>) -> Problem {
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    let hint = proto_model::catalogue::nearest(key, names.iter().copied())
        .map(|n| format!("; did you mean {n}?"))
        .unwrap_or_default();
    Problem::new(format!("params.{key}"), format!("unknown parameter{hint}")).allowed(names.join(", "))
}

fn check_range(key: &str, value: &Value, property: &Value, problems: &mut Problems) {
    let Some(number) = value.as_f64() else { return };
    let bound = |name: &str| property.get(name).and_then(Value::as_f64);
    let (low, high) = (bound("minimum"), bound("maximum"));
    if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
        let text = |b: Option<f64>| b.map(|b| b.to_string()).unwrap_or_default();
        problems.push(
            Problem::new(format!("params.{key}"), format!("{number} is out of range")).allowed(format!("{}..{}", text(low), text(high))),
        );
    }
}

/// Serde names no path for a single field, so the field is found by parsing what it names.
fn explain(error: &serde_json::Error, object: &serde_json::Map<String, Value>, properties: &serde_json::Map<String, Value>) -> Problem {
    let message = error.to_string();
    if let Some(rest) = message.strip_prefix("missing field `") {
        let field = rest.split('`').next().unwrap_or_default();
        return Problem::new(format!("params.{field}"), "is required");
    }
    let culprit = object.iter().find(|(_, value)| match value {
        Value::String(text) => message.contains(text.as_str()),
        other => message.contains(&other.to_string()),
    });
    match culprit {
        Some((key, _)) => {
            let problem = Problem::new(format!("params.{key}"), message);
            match properties.get(key).and_then(|p| p.get("enum")).map(Value::to_string) {
                Some(allowed) => problem.allowed(allowed),
                None => problem,
            }
        }
        None => Problem::new("params", message),
    }
}
