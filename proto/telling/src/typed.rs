//! A fault and its parameters as a person would type them; nothing is parsed back.

use proto_model::plan::FaultStep;
use serde_json::Value;

/// A fault and its parameters as they are typed: `cpu.burn percent=60`.
pub fn what(step: &FaultStep) -> String {
    std::iter::once(step.fault.to_string())
        .chain(pairs(&step.params))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A parameter object as `key=value` texts; what is null was not given.
pub fn pairs(params: &Value) -> Vec<String> {
    let given = params.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    given.flat_map(|(key, value)| of_key(key, value)).collect()
}

fn of_key(key: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(|item| format!("{key}={}", plain(item))).collect()
        }
        other => vec![format!("{key}={}", plain(other))],
    }
}

/// One value as it is typed.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number
            .as_f64()
            .filter(|n| n.fract() == 0.0 && n.abs() < 1e15)
            .map_or_else(|| number.to_string(), |n| format!("{n:.0}")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parameters_are_written_as_they_are_typed() {
        let params = json!({"percent": 60.0, "cores": null, "to": ["a", "b"], "rate": 0.5, "on": true});
        assert_eq!(pairs(&params), ["on=true", "percent=60", "rate=0.5", "to=a", "to=b"]);
    }
}
