//! Words on the command line, parsed once at the border; every refusal says what is expected.

use std::str::FromStr;

use proto_model::quantity::{Millis, Pick};
use proto_model::selector::{self, Selector};

/// A duration with its unit, for flags.
pub fn duration(text: &str) -> Result<Millis, String> {
    let duration = Millis::parse(text).map_err(|error| error.to_string())?;
    if duration.0 == 0 {
        Err("must be more than nothing".to_owned())
    } else {
        Ok(duration)
    }
}

/// A duration that may also be in days, for what lives long.
pub fn days(text: &str) -> Result<Millis, String> {
    match text.strip_suffix('d').map(str::parse::<u32>) {
        Some(Ok(days)) if days > 0 => Ok(Millis(u64::from(days) * 24 * 3_600_000)),
        Some(_) => Err("expected a whole number of days, such as 30d".to_owned()),
        None => duration(text),
    }
}

/// A selector, kept as typed.
pub fn selector(text: &str) -> Result<String, String> {
    let parsed = Selector::parse(text).map(|_| text.to_owned());
    parsed.map_err(|error| {
        format!(
            "{} (allowed: such as role=web, role=web,zone in (a,b), a host's name, or all)",
            error.why
        )
    })
}

pub fn pick(text: &str) -> Result<String, String> {
    let parsed = Pick::parse(text).map(|_| text.to_owned());
    parsed.map_err(|error| format!("{error} (allowed: 1 and more, or 1% to 100%)"))
}

/// A run as people name it: an id, the beginning of one, or `@last`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunName(pub String);

impl FromStr for RunName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = text.len() >= 6 && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if id || text == "@last" {
            return Ok(Self(text.to_owned()));
        }
        Err("expected a run's id, at least the first 6 characters of one, or @last".to_owned())
    }
}

/// A label to set, `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub key: String,
    pub value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected key=value")?;
        Ok(Self {
            key: selector::key(key)?,
            value: selector::value(value)?,
        })
    }
}

/// `key=value` to set a label, `key-` to remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelChange {
    Set(Label),
    Remove(String),
}

impl FromStr for LabelChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains('=')
            && let Some(key) = text.strip_suffix('-')
        {
            return selector::key(key).map(Self::Remove);
        }
        text.parse().map(Self::Set).map_err(|error: String| {
            if error == "expected key=value" {
                "expected key=value to set, or key- to remove".to_owned()
            } else {
                error
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_by_at_least_six_characters() {
        assert!("0123ab".parse::<RunName>().is_ok());
        assert!("@last".parse::<RunName>().is_ok());
        for bad in ["", "0123a", "@first", "../../x", "0123 ab"] {
            assert!(bad.parse::<RunName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_set_and_removed() {
        let set = |key: &str, value: &str| {
            LabelChange::Set(Label {
                key: key.into(),
                value: value.into(),
            })
        };
        assert_eq!("role=web".parse(), Ok(set("role", "web")));
        assert_eq!("zone=eu-".parse(), Ok(set("zone", "eu-")));
        assert_eq!("role-".parse(), Ok(LabelChange::Remove("role".into())));
        assert!("role".parse::<LabelChange>().is_err());
        assert!("role=".parse::<LabelChange>().is_err());
    }

    #[test]
    fn durations_need_a_unit_and_a_length() {
        assert_eq!(duration("2s"), Ok(Millis(2_000)));
        assert!(duration("2").is_err());
        assert!(duration("0s").is_err());
    }
}
