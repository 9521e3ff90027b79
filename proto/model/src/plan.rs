//! A plan: an experiment with every choice made. Immutable; its digest is over its own canonical JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalogue::FaultKind;
use crate::id::{HostName, PlanDigest, sha256_text};
use crate::injection::{PreflightAnswer, Reversal};
use crate::probe::ProbeSpec;
use crate::time::Timestamp;

/// Where a run came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Attack,
    Experiment,
    Schedule,
    Gameday,
    Import,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hypothesis {
    pub says: String,
    /// Steady state must hold this long first.
    pub before_ms: u64,
    /// And return within this long after the last undo.
    pub after_ms: u64,
    pub probes: Vec<ProbeSpec>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Hosts injected at the same time.
    pub hosts: Option<u32>,
    /// That number over the hosts that match before `pick`, in percent.
    pub share_percent: Option<f64>,
    /// Run start to last undo.
    pub duration_ms: Option<u64>,
    /// Matching hosts that stay healthy.
    pub keep_healthy: Option<u32>,
}

/// One injection to be: its id is made when the run is accepted, so that one plan may run twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedInjection {
    pub host: HostName,
    pub seed: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultStep {
    pub fault: FaultKind,
    /// Typed by the targets' catalogues, labels replaced by addresses.
    pub params: serde_json::Value,
    pub duration_ms: u64,
    pub reversal: Reversal,
    pub injections: Vec<PlannedInjection>,
    /// How many hosts matched before `pick`.
    pub matched: u32,
    /// Those hosts, where a limit counts them again when the step starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub among: Vec<HostName>,
    #[serde(default, skip_serializing_if = "OnFailure::is_stop")]
    pub on_failure: OnFailure,
}

/// What a step does when a host refuses its order, cannot apply it, or ends it before its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run is stopped and everything undone.
    #[default]
    Stop,
    /// The other hosts go on; the run cannot pass any more.
    Continue,
}

impl OnFailure {
    fn is_stop(&self) -> bool {
        *self == Self::Stop
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepBody {
    Fault(FaultStep),
    Wait {
        ms: u64,
    },
    /// All at the same time; over when the last of them is.
    Parallel(Vec<PlannedStep>),
    /// One after the other: a group, or the rounds of what is repeated.
    Sequence(Vec<PlannedStep>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// `steps[0]`, `steps[2].parallel[1]`, `steps[3].round[0].steps[1]`: unique in its plan.
    pub path: String,
    pub body: StepBody,
}

/// What was true of a host when the plan was made; a run of the plan refuses when it has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedHost {
    pub name: HostName,
    pub boot_id: String,
    pub catalogue_digest: String,
    pub labels: BTreeMap<String, String>,
    pub source_address: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    pub origin: Origin,
    pub service: Option<String>,
    pub environment: String,
    /// Whether the environment was production when the plan was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub production: bool,
    pub hypothesis: Option<Hypothesis>,
    pub guards: Vec<ProbeSpec>,
    pub limits: Limits,
    pub steps: Vec<PlannedStep>,
    pub hosts: Vec<PlannedHost>,
    pub seed: u64,
    /// Things said while planning: "50% of 5 is 2".
    pub notes: Vec<String>,
    /// The file's text, or the command as it was understood.
    pub source: String,
    /// The file's variables as they were set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, serde_json::Value>,
}

impl Origin {
    /// Nobody is there when it starts.
    pub fn is_unattended(self) -> bool {
        self == Self::Schedule
    }
}

impl Plan {
    /// The digest of what was written: of the file as `sha256sum` would give it and, where it has variables, of their values after it.
    pub fn experiment_digest(&self) -> String {
        if self.variables.is_empty() {
            return sha256_text(self.source.as_bytes());
        }
        let variables = serde_json::to_string(&self.variables).unwrap_or_default();
        sha256_text(format!("{}\n{variables}", self.source).as_bytes())
    }

    /// The steps that cannot be undone, with the reason of each.
    pub fn irreversible(&self) -> impl Iterator<Item = (&str, &FaultStep, &str)> {
        self.fault_steps().filter_map(|(path, step)| match &step.reversal {
            Reversal::Full => None,
            Reversal::Irreversible { why } => Some((path, step, why.as_ref())),
        })
    }

    /// Over the canonical JSON: fields in order, map keys sorted.
    pub fn digest(&self) -> PlanDigest {
        PlanDigest::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    pub fn probes(&self) -> impl Iterator<Item = &ProbeSpec> {
        self.hypothesis.iter().flat_map(|h| &h.probes).chain(&self.guards)
    }
}

/// A plan with what the hosts answered: what `fracas plan` prints. Also the JSON document `Plan`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    pub digest: PlanDigest,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub plan: Plan,
    pub answers: Vec<HostAnswer>,
    /// True when every host would accept.
    pub accepted: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostAnswer {
    pub step: String,
    pub host: HostName,
    pub answer: PreflightAnswer,
}
