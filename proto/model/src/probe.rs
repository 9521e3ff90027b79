//! Probes and their samples: what is asked of the system under test, how often, and what counts as an answer.

use serde::{Deserialize, Serialize};

use crate::id::{HostName, InvalidId};
use crate::quantity::Percent;
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeCheck {
    Http(HttpCheck),
    Tcp(TcpCheck),
    Prometheus(PrometheusCheck),
    /// Hosts only, and only where the host's own policy names a directory of programs.
    Command(CommandCheck),
}

impl ProbeCheck {
    /// The slowest answer that is good.
    pub fn within_ms(&self) -> Option<u64> {
        match self {
            Self::Http(HttpCheck { within_ms, .. })
            | Self::Tcp(TcpCheck { within_ms, .. })
            | Self::Prometheus(PrometheusCheck { within_ms, .. })
            | Self::Command(CommandCheck { within_ms, .. }) => *within_ms,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpCheck {
    pub url: String,
    /// The status that is good.
    pub status: u16,
    /// The slowest answer that is good, whole body included.
    pub within_ms: Option<u64>,
    /// A text the body must contain.
    pub contains: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TcpCheck {
    /// `host:port`
    pub address: String,
    pub within_ms: Option<u64>,
}

/// What a number must be; every bound that is given must hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueBounds {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrometheusCheck {
    /// Of the server, without `/api/v1/query`.
    pub url: String,
    /// PromQL; every series of its answer must be within the bounds.
    pub query: String,
    #[serde(flatten)]
    pub bounds: ValueBounds,
    pub within_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandCheck {
    /// A name in the directory that the host's policy names, never a path.
    pub program: String,
    pub args: Vec<String>,
    /// The exit code that is good.
    pub exit: u8,
    /// A text that the output must contain.
    pub contains: Option<String>,
    /// What the output must be as a number; without any bound it need not be one.
    #[serde(flatten)]
    pub bounds: ValueBounds,
    pub within_ms: Option<u64>,
}

impl CommandCheck {
    /// Whether this could be a program's name: one component, not hidden, nothing a shell or a path would read.
    pub fn is_program_name(text: &str) -> bool {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(known)
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
    fn a_program_is_a_name_and_no_path() {
        for (text, expected) in [
            ("check-queue_1.sh", true),
            ("", false),
            ("..", false),
            (".hidden", false),
            ("../x", false),
            ("a/b", false),
            ("/bin/sh", false),
            ("a b", false),
            ("a;b", false),
            ("a\0b", false),
        ] {
            assert_eq!(CommandCheck::is_program_name(text), expected, "{text:?}");
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

    #[test]
    fn checks_cross_as_json() {
        let check = ProbeCheck::Prometheus(PrometheusCheck {
            url: "http://prom:9090".into(),
            query: "up".into(),
            bounds: ValueBounds {
                below: Some(0.5),
                ..ValueBounds::default()
            },
            within_ms: None,
        });
        let json = serde_json::to_value(&check).unwrap();
        assert_eq!(json["prometheus"]["below"], 0.5);
        assert_eq!(serde_json::from_value::<ProbeCheck>(json).unwrap(), check);
    }
}
