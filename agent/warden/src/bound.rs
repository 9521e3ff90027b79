//! The most that a parameter may be, in the parameter's own unit; what cannot be compared is never let through.

use proto_model::quantity::{Bytes, Millis, Percent};
use serde::Deserialize;
use serde_json::Value;

/// A bare number, a percent, a length of time or a size.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub struct Bound {
    text: String,
    magnitude: Magnitude,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Magnitude {
    Bare(f64),
    Percent(f64),
    Millis(u64),
    Bytes(u64),
}

impl TryFrom<toml::Value> for Bound {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let magnitude = match &value {
            toml::Value::Integer(number) => Some(Magnitude::Bare(*number as f64)),
            toml::Value::Float(number) => Some(Magnitude::Bare(*number)),
            toml::Value::String(text) => Magnitude::parse(text),
            _ => None,
        };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let magnitude =
            magnitude.ok_or_else(|| format!("{text} is no limit (allowed: a number, or such as \"60%\", \"2s\" or \"512MiB\")"))?;
        Ok(Self { text, magnitude })
    }
}

impl Magnitude {
    fn parse(text: &str) -> Option<Self> {
        let bare = || text.trim().parse().ok().map(Self::Bare);
        let percent = || Percent::parse(text).ok().map(|percent| Self::Percent(percent.0));
        let millis = || Millis::parse(text).ok().map(|millis| Self::Millis(millis.0));
        let bytes = || Bytes::parse(text).ok().map(|bytes| Self::Bytes(bytes.0));
        bare().or_else(percent).or_else(millis).or_else(bytes)
    }

    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_f64().map(Self::Bare),
            Value::String(text) => Self::parse(text),
            _ => None,
        }
    }
}

impl Bound {
    /// None when the two are of different units, or the value is no quantity.
    pub fn allows(&self, value: &Value) -> Option<bool> {
        match (Magnitude::of(value)?, self.magnitude) {
            (Magnitude::Bare(a) | Magnitude::Percent(a), Magnitude::Bare(b) | Magnitude::Percent(b)) => Some(a <= b),
            (Magnitude::Millis(a), Magnitude::Millis(b)) | (Magnitude::Bytes(a), Magnitude::Bytes(b)) => Some(a <= b),
            _ => None,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bound(value: toml::Value) -> Bound {
        Bound::try_from(value).unwrap()
    }

    #[test]
    fn quantities_are_compared_in_their_unit() {
        for (most, value, expected) in [
            (toml::Value::Integer(80), json!(80.0), Some(true)),
            (toml::Value::Integer(80), json!("81%"), Some(false)),
            (toml::Value::String("60%".into()), json!(60.5), Some(false)),
            (toml::Value::String("2s".into()), json!("1999ms"), Some(true)),
            (toml::Value::String("2s".into()), json!("1m"), Some(false)),
            (toml::Value::String("1GiB".into()), json!("1024MiB"), Some(true)),
            (toml::Value::String("1GiB".into()), json!("2GB"), Some(false)),
            (toml::Value::String("1GiB".into()), json!("50%"), None),
            (toml::Value::Integer(5), json!("5MiB"), None),
            (toml::Value::Integer(5), json!(["x"]), None),
        ] {
            assert_eq!(bound(most.clone()).allows(&value), expected, "{most} {value}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_no_limit() {
        assert!(Bound::try_from(toml::Value::String("many".into())).unwrap_err().contains("many"));
        assert!(Bound::try_from(toml::Value::Boolean(true)).is_err());
    }
}
