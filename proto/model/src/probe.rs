//! Probes and their samples: what is asked of the system under test, how often, and what counts as an answer.

use serde::{Deserialize, Serialize};

use crate::id::HostName;
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub probe: String,
    /// `controller` or the host's name.
    pub prober: String,
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
