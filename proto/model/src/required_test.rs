//! An experiment that a service requires, and what a run of it must be to count: no other thing under the same name does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::quantity::{Bytes, Millis, Percent};

/// The least time between two runs that count, unless the test says another.
pub const DEFAULT_MIN_INTERVAL_MS: u64 = 24 * 60 * 60 * 1_000;

/// At least one of `digest` and `variables` says what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequiredTest {
    /// The experiment's name.
    pub name: String,
    /// Of the experiment's file and the values of its variables, as plans and runs show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the run's variables must be.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, VariableBounds>,
    /// The least time between two runs that count.
    pub min_interval_ms: u64,
}

/// What a variable's value must be; every bound that is given must hold. Bounds and values have their units.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VariableBounds {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Value>,
}

/// A number with what it counts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Quantity {
    Time(f64),
    Size(f64),
    /// A percent is the number before its sign.
    Number(f64),
}

/// Whether a bound is a number with or without a unit, so that values can be more or less than it.
pub fn is_quantity(value: &Value) -> bool {
    quantity(value).is_some()
}

fn quantity(value: &Value) -> Option<Quantity> {
    let text = match value {
        Value::Number(number) => return number.as_f64().map(Quantity::Number),
        Value::String(text) => text.trim(),
        _ => return None,
    };
    if let Ok(time) = Millis::parse(text) {
        return Some(Quantity::Time(time.0 as f64));
    }
    if let Ok(size) = Bytes::parse(text) {
        return Some(Quantity::Size(size.0 as f64));
    }
    let number = Percent::parse(text).ok().map(|percent| percent.0).or_else(|| text.parse().ok());
    number.map(Quantity::Number)
}

impl VariableBounds {
    /// The first bound that the value breaks, in words. Another unit breaks every bound.
    pub fn broken_by(&self, value: &Value) -> Option<String> {
        type Holds = fn(f64, f64) -> bool;
        let bounds: [(&Option<Value>, &str, Holds); 4] = [
            (&self.above, "above", |value, bound| value > bound),
            (&self.at_least, "at least", |value, bound| value >= bound),
            (&self.at_most, "at most", |value, bound| value <= bound),
            (&self.below, "below", |value, bound| value < bound),
        ];
        for (bound, word, holds) in bounds {
            let Some(bound) = bound else { continue };
            let held = compare(value, bound).is_some_and(|(value, bound)| holds(value, bound));
            if !held {
                return Some(format!("{word} {}", plain(bound)));
            }
        }
        let bound = self.equals.as_ref()?;
        let equal = compare(value, bound).map_or(value == bound, |(value, bound)| value == bound);
        (!equal).then(|| plain(bound))
    }
}

/// Both as numbers, where they count the same thing.
fn compare(value: &Value, bound: &Value) -> Option<(f64, f64)> {
    match (quantity(value)?, quantity(bound)?) {
        (Quantity::Time(value), Quantity::Time(bound))
        | (Quantity::Size(value), Quantity::Size(bound))
        | (Quantity::Number(value), Quantity::Number(bound)) => Some((value, bound)),
        _ => None,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl RequiredTest {
    /// Why a run of an experiment with this name, digest and variables is no run of the test, in words.
    pub fn differs_from(&self, experiment: &str, variables: &BTreeMap<String, Value>) -> Option<String> {
        if let Some(digest) = &self.digest
            && digest != experiment
        {
            return Some(format!("it ran another experiment, {experiment}; the test is {digest}"));
        }
        self.variables.iter().find_map(|(name, bounds)| {
            let Some(value) = variables.get(name) else {
                return Some(format!("the experiment had no variable {name}"));
            };
            let broken = bounds.broken_by(value)?;
            Some(format!("{name} was {}; the test requires {broken}", plain(value)))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_held_against_bounds_with_their_units() {
        let bounds = |value: Value| serde_json::from_value::<VariableBounds>(value).unwrap();
        for (bound, value, broken) in [
            (json!({ "at_least": "100ms" }), json!("0.1s"), None),
            (json!({ "at_least": "100ms" }), json!("1ms"), Some("at least 100ms")),
            (json!({ "at_least": "100ms" }), json!(100), Some("at least 100ms")),
            (json!({ "above": 50, "below": "80%" }), json!("60%"), None),
            (json!({ "above": 50, "below": "80%" }), json!(80), Some("below 80%")),
            (json!({ "at_most": "1GiB" }), json!("512MiB"), None),
            (json!({ "at_most": "1GiB" }), json!("2GiB"), Some("at most 1GiB")),
            (json!({ "equals": "redis" }), json!("redis"), None),
            (json!({ "equals": "redis" }), json!("nginx"), Some("redis")),
            (json!({ "equals": "60s" }), json!("1m"), None),
            (json!({ "equals": true }), json!(false), Some("true")),
        ] {
            assert_eq!(bounds(bound.clone()).broken_by(&value).as_deref(), broken, "{bound} {value}");
        }
    }
}
