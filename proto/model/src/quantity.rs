//! Amounts with their units, parsed once: durations, sizes, percents, port lists, cpu lists; never a bare number.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not the amount it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: expected {expected}")]
pub struct InvalidQuantity {
    pub what: &'static str,
    pub text: String,
    pub expected: &'static str,
}

fn invalid(what: &'static str, text: &str, expected: &'static str) -> InvalidQuantity {
    InvalidQuantity {
        what,
        text: text.to_owned(),
        expected,
    }
}

/// Splits `2.5s` into its number and its unit.
fn split_unit(text: &str) -> Option<(f64, &str)> {
    let at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..at].parse().ok()?;
    number.is_finite().then_some((number, &text[at..]))
}

/// A length of time in whole milliseconds, written `200ms`, `2s`, `5m`, `1h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        const EXPECTED: &str = "a number and a unit, such as 200ms, 2s, 5m or 1h";
        let fail = || invalid("a duration", text, EXPECTED);
        let (number, unit) = split_unit(text.trim()).ok_or_else(fail)?;
        let factor = match unit {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return Err(fail()),
        };
        let ms = number * factor;
        if ms > 1e15 {
            return Err(fail());
        }
        Ok(Self(ms.round() as u64))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0s"),
            ms if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            ms if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            ms if ms.is_multiple_of(1_000) => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

/// A number of bytes, written `512MiB`, `2GB`, `4096B`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

const SIZE_UNITS: [(&str, f64); 9] = [
    ("TiB", 1_099_511_627_776.0),
    ("GiB", 1_073_741_824.0),
    ("MiB", 1_048_576.0),
    ("KiB", 1_024.0),
    ("TB", 1e12),
    ("GB", 1e9),
    ("MB", 1e6),
    ("kB", 1e3),
    ("B", 1.0),
];

impl Bytes {
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let fail = || invalid("a size", text, "a number and a unit, such as 512MiB or 2GB");
        let (number, unit) = split_unit(text.trim()).ok_or_else(fail)?;
        let factor = SIZE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, f)| *f)
            .ok_or_else(fail)?;
        let bytes = number * factor;
        if bytes > 1e18 {
            return Err(fail());
        }
        Ok(Self(bytes.round() as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in &SIZE_UNITS[..4] {
            let factor = *factor as u64;
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{name}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A share of a whole, 0 to 100, written `60` or `60%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl Percent {
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let fail = || invalid("a percent", text, "a number from 0 to 100, such as 60 or 60%");
        let trimmed = text.trim();
        let number: f64 = trimmed.strip_suffix('%').unwrap_or(trimmed).parse().map_err(|_| fail())?;
        if (0.0..=100.0).contains(&number) {
            Ok(Self(number))
        } else {
            Err(fail())
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// A share of a whole or a size, written `60%` or `512MiB`; a bare number is neither.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    Share(Percent),
    Size(Bytes),
}

impl Amount {
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let parsed = match text.trim().ends_with('%') {
            true => Percent::parse(text).map(Self::Share),
            false => Bytes::parse(text).map(Self::Size),
        };
        parsed.map_err(|_| invalid("an amount", text, "a percent such as 60%, or a size such as 512MiB or 2GB"))
    }

    /// In bytes, as a share of `whole`.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Self::Share(Percent(percent)) => (whole as f64 * percent / 100.0).round() as u64,
            Self::Size(Bytes(bytes)) => bytes,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(percent) => percent.fmt(f),
            Self::Size(bytes) => bytes.fmt(f),
        }
    }
}

/// One port or an inclusive range, written `80` or `8000-8100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let fail = || invalid("a port", text, "1 to 65535, or a range such as 8000-8100");
        let port = |t: &str| t.trim().parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(fail);
        let (first, last) = match text.split_once('-') {
            Some((a, b)) => (port(a)?, port(b)?),
            None => (port(text)?, port(text)?),
        };
        if first <= last { Ok(Self { first, last }) } else { Err(fail()) }
    }

    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Processors by number, written as the kernel does: `0`, `0-3`, `0,2-3`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuList(pub Vec<u32>);

impl CpuList {
    /// Processors a list may name: more than any kernel is built for.
    const MAX: u32 = 8192;

    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let fail = || invalid("a cpu list", text, "numbers and ranges, such as 0,2-3");
        let mut cpus = Vec::new();
        for part in text.trim().split(',') {
            let number = |t: &str| t.trim().parse::<u32>().ok().filter(|n| *n < Self::MAX).ok_or_else(fail);
            let (first, last) = match part.split_once('-') {
                Some((a, b)) => (number(a)?, number(b)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(fail());
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        cpus.dedup();
        Ok(Self(cpus))
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// Either a bare number or a text, so that `percent: 60`, `"60"` and `"60%"` are one thing.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(f64),
    Text(String),
}

macro_rules! text_form {
    ($name:ident, $format:literal, $pattern:literal, $what:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match NumberOrText::deserialize(deserializer)? {
                    NumberOrText::Text(text) => Self::parse(&text).map_err(de::Error::custom),
                    NumberOrText::Number(number) => Self::parse(&number.to_string()).map_err(de::Error::custom),
                }
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "pattern": $pattern })
            }
        }
    };
}

text_form!(Millis, "fracas-duration", r"^[0-9.]+(ms|s|m|h)$", "a duration");
text_form!(Bytes, "fracas-size", r"^[0-9.]+(TiB|GiB|MiB|KiB|TB|GB|MB|kB|B)$", "a size");
text_form!(Amount, "fracas-amount", r"^[0-9.]+(%|TiB|GiB|MiB|KiB|TB|GB|MB|kB|B)$", "an amount");
text_form!(PortRange, "fracas-ports", r"^[0-9]+(-[0-9]+)?$", "a port");
text_form!(CpuList, "fracas-cpus", r"^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$", "a cpu list");

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Text(text) => Self::parse(&text).map_err(de::Error::custom),
            NumberOrText::Number(number) => Self::parse(&number.to_string()).map_err(de::Error::custom),
        }
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "format": "fracas-percent", "minimum": 0, "maximum": 100 })
    }
}

/// How many of the matching hosts: a count or a percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pick {
    Count(u32),
    Share(Percent),
}

impl Pick {
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let fail = || invalid("a pick", text, "a count such as 2 or a percent such as 50%");
        if text.trim().ends_with('%') {
            return Percent::parse(text).map(Self::Share).map_err(|_| fail());
        }
        text.trim().parse().ok().filter(|n| *n > 0).map(Self::Count).ok_or_else(fail)
    }

    /// How many of `matching`: percent rounds down, at least 1.
    pub fn of(self, matching: usize) -> usize {
        match self {
            Self::Count(n) => n as usize,
            Self::Share(Percent(p)) => ((matching as f64 * p / 100.0).floor() as usize).max(1),
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => write!(f, "{n}"),
            Self::Share(p) => write!(f, "{p}"),
        }
    }
}

impl Serialize for Pick {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pick {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Text(text) => Self::parse(&text).map_err(de::Error::custom),
            NumberOrText::Number(number) => Self::parse(&number.to_string()).map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_their_unit() {
        assert_eq!(Millis::parse("200ms"), Ok(Millis(200)));
        assert_eq!(Millis::parse("1.5s"), Ok(Millis(1500)));
        assert_eq!(Bytes::parse("512MiB"), Ok(Bytes(536_870_912)));
        assert!(Millis::parse("200").is_err());
        assert!(Millis::parse("-2s").is_err());
        assert!(Bytes::parse("12").is_err());
    }

    #[test]
    fn percent_takes_both_spellings_and_refuses_more_than_all() {
        assert_eq!(Percent::parse("60%").unwrap().0, 60.0);
        assert_eq!(serde_json::from_str::<Percent>("60").unwrap().0, 60.0);
        assert!(Percent::parse("101").is_err());
        assert!(serde_json::from_str::<Percent>("101").is_err());
    }

    #[test]
    fn an_amount_says_of_what_kind_it_is() {
        assert_eq!(Amount::parse("25%").unwrap().of(1 << 30), 1 << 28);
        assert_eq!(Amount::parse("64MiB"), Ok(Amount::Size(Bytes(64 << 20))));
        assert_eq!(Amount::parse("12.5%").unwrap().to_string(), "12.5%");
        for bad in ["50", "101%", "MiB", ""] {
            assert!(Amount::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pick_rounds_down_but_never_to_nothing() {
        assert_eq!(Pick::parse("50%").unwrap().of(5), 2);
        assert_eq!(Pick::parse("1%").unwrap().of(5), 1);
        assert!(Pick::parse("0").is_err());
    }

    #[test]
    fn lists_of_ports_and_cpus() {
        assert_eq!(CpuList::parse("0,2-3"), Ok(CpuList(vec![0, 2, 3])));
        assert!(CpuList::parse("3-1").is_err());
        assert!(PortRange::parse("80-70").is_err());
        assert!(PortRange::parse("0").is_err());
        assert_eq!(PortRange::parse("8000-8100").unwrap().to_string(), "8000-8100");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for ms in [0, 1, 999, 1_000, 61_000, 3_600_000] {
            assert_eq!(Millis::parse(&Millis(ms).to_string()), Ok(Millis(ms)));
        }
        for bytes in [1, 1024, 1_048_577, 536_870_912] {
            assert_eq!(Bytes::parse(&Bytes(bytes).to_string()), Ok(Bytes(bytes)));
        }
    }
}
