//! Probes and their samples: what is asked of the system under test, how often, and what counts as an answer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::{HostName, InvalidId};
use crate::quantity::{Millis, Percent};
use crate::time::Timestamp;

pub const DEFAULT_EVERY_MS: u64 = 1_000;
pub const DEFAULT_TIMEOUT_MS: u64 = 1_000;
/// Consecutive bad or missing samples that break a guard.
pub const DEFAULT_BREAKS: u32 = 3;
/// Samples a phase needs before it can be judged.
pub const MIN_SAMPLES: u32 = 3;
/// Good samples in a row that count as recovered.
pub const RECOVERED_RUN: u32 = 3;
/// Share of missing samples, in percent, over which a phase is inconclusive.
pub const MAX_MISSING_PERCENT: f64 = 20.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeRole {
    Hypothesis,
    Guard,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prober {
    Controller,
    Hosts(Vec<HostName>),
}

/// A way of asking: its kind's name, and its parameters as the kind's own schema has them.
///
/// The kinds are those of `proto-probes`; what a prober does not know, it cannot ask, and says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Map<String, Value>>", into = "BTreeMap<String, Map<String, Value>>")]
pub struct ProbeCheck {
    pub kind: String,
    pub params: Map<String, Value>,
}

/// The parameter that every kind has: the slowest answer that is good.
pub const WITHIN: &str = "within";

impl ProbeCheck {
    /// The slowest answer that is good.
    pub fn within(&self) -> Option<Millis> {
        Millis::parse(self.params.get(WITHIN)?.as_str()?).ok()
    }
}

impl From<ProbeCheck> for BTreeMap<String, Map<String, Value>> {
    fn from(check: ProbeCheck) -> Self {
        [(check.kind, check.params)].into()
    }
}

impl TryFrom<BTreeMap<String, Map<String, Value>>> for ProbeCheck {
    type Error = String;

    fn try_from(mut kinds: BTreeMap<String, Map<String, Value>>) -> Result<Self, String> {
        let count = kinds.len();
        match kinds.pop_first().filter(|_| count == 1) {
            Some((kind, params)) => Ok(Self { kind, params }),
            None => Err(format!("a probe asks in exactly one way, not in {count}")),
        }
    }
}

/// What a number must be; every bound that is given must hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValueBounds {
    /// The value must be more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// The value must be this or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The value must be exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<f64>,
    /// The value must be this or less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// The value must be less than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
}

impl ValueBounds {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The first bound that the value breaks, in words. No bound holds for what is not a number.
    pub fn broken_by(&self, value: f64) -> Option<String> {
        let bounds = [
            (self.above, "above", self.above.is_some_and(|bound| value > bound)),
            (self.at_least, "at least", self.at_least.is_some_and(|bound| value >= bound)),
            (self.equals, "equal to", self.equals.is_some_and(|bound| value == bound)),
            (self.at_most, "at most", self.at_most.is_some_and(|bound| value <= bound)),
            (self.below, "below", self.below.is_some_and(|bound| value < bound)),
        ];
        let broken = bounds
            .into_iter()
            .find_map(|(bound, word, holds)| Some((bound?, word)).filter(|_| !holds));
        broken.map(|(bound, word)| format!("{value} is not {word} {bound}"))
    }
}

/// How many bad samples of a phase the hypothesis tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    Count(u32),
    Share(Percent),
}

impl Tolerance {
    pub fn allows(self, bad: u32, of: u32) -> bool {
        match self {
            Self::Count(n) => bad <= n,
            Self::Share(Percent(p)) => f64::from(bad) * 100.0 <= p * f64::from(of),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeSpec {
    pub name: String,
    pub role: ProbeRole,
    pub check: ProbeCheck,
    pub from: Prober,
    pub every_ms: u64,
    /// At most `every_ms`.
    pub timeout_ms: u64,
    pub tolerate: Tolerance,
    /// Guards only: consecutive bad or missing samples that break it.
    pub breaks: u32,
}

impl ProbeSpec {
    /// The longest a guard may take to notice: all its breaks, the slowest way.
    pub fn worst_reaction_ms(&self) -> u64 {
        u64::from(self.breaks) * self.every_ms + self.timeout_ms
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleResult {
    Good,
    /// Asked, and a bound broke: refused, reset, timed out, wrong status.
    Bad,
    /// Could not be asked, or has no answer.
    Missing,
}

/// Which prober took a sample: written as `"controller"` or `{"host": NAME}`, so that no host can be mistaken for the controller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "WrittenProber")]
pub enum SampledBy {
    Controller,
    Host(HostName),
}

/// As it is written now, or by its bare name as in older records.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenProber {
    Name(String),
    Host { host: HostName },
}

impl TryFrom<WrittenProber> for SampledBy {
    type Error = InvalidId;

    fn try_from(written: WrittenProber) -> Result<Self, InvalidId> {
        match written {
            WrittenProber::Name(name) if name == "controller" => Ok(Self::Controller),
            WrittenProber::Name(name) => HostName::parse(&name).map(Self::Host),
            WrittenProber::Host { host } => Ok(Self::Host(host)),
        }
    }
}

impl std::fmt::Display for SampledBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Controller => f.write_str("the controller"),
            Self::Host(host) => write!(f, "{host}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub probe: String,
    pub prober: SampledBy,
    pub started_at: Timestamp,
    pub took_ms: u64,
    pub result: SampleResult,
    pub value: Option<f64>,
    pub unit: Option<String>,
    pub error: Option<String>,
}

/// The phase of a run a sample belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Before,
    During,
    After,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_that_is_given_must_hold() {
        let bounds = ValueBounds {
            above: Some(1.0),
            below: Some(2.0),
            ..ValueBounds::default()
        };
        assert_eq!(bounds.broken_by(1.5), None);
        assert_eq!(bounds.broken_by(2.0).as_deref(), Some("2 is not below 2"));
        assert_eq!(bounds.broken_by(f64::NEG_INFINITY).as_deref(), Some("-inf is not above 1"));
        assert!(bounds.broken_by(f64::NAN).is_some());
        let edges = ValueBounds {
            at_least: Some(0.0),
            equals: Some(0.0),
            at_most: Some(0.0),
            ..ValueBounds::default()
        };
        assert!(edges.broken_by(0.0).is_none() && edges.broken_by(-0.1).is_some() && ValueBounds::default().is_empty());
    }

    #[test]
    fn checks_cross_as_json() {
        let json = serde_json::json!({ "prometheus": { "url": "http://prom:9090", "query": "up", "below": 0.5, "within": "300ms" } });
        let check: ProbeCheck = serde_json::from_value(json.clone()).unwrap();
        assert_eq!((check.kind.as_str(), check.within()), ("prometheus", Some(Millis(300))));
        assert_eq!(serde_json::to_value(&check).unwrap(), json);
        for bad in [serde_json::json!({}), serde_json::json!({ "http": {}, "tcp": {} })] {
            let error = serde_json::from_value::<ProbeCheck>(bad).unwrap_err().to_string();
            assert!(error.contains("exactly one"), "{error}");
        }
    }

    #[test]
    fn a_host_is_never_written_as_the_controller() {
        let host = SampledBy::Host(HostName::parse("web").unwrap());
        assert_eq!(serde_json::to_string(&SampledBy::Controller).unwrap(), r#""controller""#);
        assert_eq!(serde_json::to_string(&host).unwrap(), r#"{"host":"web"}"#);
        assert_eq!(serde_json::from_str::<SampledBy>(r#"{"host":"web"}"#).unwrap(), host);
        assert_eq!(serde_json::from_str::<SampledBy>(r#""web""#).unwrap(), host);
        for forged in [r#"{"host":"controller"}"#, r#"{"host":"all"}"#, r#""a b""#] {
            assert!(serde_json::from_str::<SampledBy>(forged).is_err(), "{forged}");
        }
    }
}
