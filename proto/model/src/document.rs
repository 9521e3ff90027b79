//! The published JSON documents that people and programs read; stable, versioned, absent is null.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalogue::FaultKind;
use crate::event::RunPhase;
use crate::host::PRODUCTION;
use crate::id::{HostName, InjectionId, RunId};
use crate::injection::{Cleanliness, EffectState, EndedBy, InjectionState};
use crate::plan::Origin;
use crate::probe::{Phase, ProbeRole, SampleResult, SampledBy};
use crate::problem::Problem;
use crate::role::Role;
use crate::time::Timestamp;
use crate::verdict::{Cleanup, Reason, RunEndedBy, Verdict};

pub const API_VERSION: &str = "fracas/v1";

/// `{"apiVersion": "fracas/v1", "kind": "...", ...}` around any document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document<T> {
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    pub kind: String,
    #[serde(flatten)]
    pub body: T,
}

impl<T> Document<T> {
    pub fn new(kind: &str, body: T) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: kind.to_owned(),
            body,
        }
    }
}

/// What everybody trusts, and how far its rotation is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuthorityDocument {
    /// `settled`, `prepared` or `switched`.
    pub phase: String,
    pub since: Timestamp,
    /// Trusted, the one in force first.
    pub authorities: Vec<TrustedAuthority>,
    pub hosts: u32,
    /// Who would be shut out by the next step: hosts, and operators as `operator/NAME`.
    pub waiting: Vec<String>,
    /// All of them, to be trusted.
    pub pem: String,
    /// What a step did, or why there was nothing to do.
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrustedAuthority {
    pub state: AuthorityState,
    pub fingerprint: String,
    pub begins: Timestamp,
    pub ends: Timestamp,
    pub hosts_trusting: u32,
    /// Hosts whose certificate is of this one.
    pub hosts_certified: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityState {
    InForce,
    Next,
    Previous,
}

/// `{apiVersion, kind: "RunList", items}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct List<T> {
    pub items: Vec<T>,
}

/// A run as its events tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunDocument {
    pub id: RunId,
    pub name: String,
    pub origin: Origin,
    pub service: Option<String>,
    pub environment: String,
    /// Whether the environment was production when the run was planned.
    #[serde(default)]
    pub production: bool,
    pub state: RunPhase,
    pub verdict: Option<Verdict>,
    pub exit_code: Option<u8>,
    pub ended_by: Option<RunEndedBy>,
    pub cleanup: Cleanup,
    pub reasons: Vec<Reason>,
    pub plan: PlanRef,
    pub by: String,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub steps: Vec<StepDocument>,
    pub injections: Vec<InjectionDocument>,
    pub hosts: Vec<RunHostDocument>,
    pub probes: Vec<ProbePhaseDocument>,
    pub detection_ms: Option<u64>,
    pub recovery_ms: Option<u64>,
    /// Whether the system came back after the run's end, whatever ended it; null when nothing was injected or nothing was asked.
    #[serde(default)]
    pub recovery: Option<RecoveryDocument>,
}

impl RunDocument {
    /// Runs of before environments were declared say it by the name alone.
    pub fn in_production(&self) -> bool {
        self.production || self.environment == PRODUCTION
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryDocument {
    pub state: RecoveryState,
    /// Of the slowest probe, from the last undo; null unless every probe and guard came back.
    pub after_ms: Option<u64>,
    pub probes: Vec<ProbeRecoveryDocument>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryState {
    Recovered,
    NotRecovered,
    /// The run still watches.
    Pending,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeRecoveryDocument {
    pub name: String,
    pub role: ProbeRole,
    pub recovery_ms: Option<u64>,
    /// The probe's last answer; null when there was none.
    pub last: Option<AnswerDocument>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerDocument {
    pub prober: SampledBy,
    pub at: Timestamp,
    pub result: SampleResult,
    pub value: Option<f64>,
    pub unit: Option<String>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRef {
    pub digest: String,
    pub seed: u64,
    /// The digest of the experiment's file and of the values of its variables: the same for each run of the same thing.
    #[serde(default)]
    pub experiment: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepDocument {
    pub path: String,
    /// `cpu.burn on web` or `wait 5s`
    pub title: String,
    /// pending starting holding ending done failed cancelled skipped
    pub state: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InjectionDocument {
    pub id: InjectionId,
    pub step: String,
    pub host: HostName,
    pub fault: FaultKind,
    pub params: serde_json::Value,
    pub state: InjectionState,
    pub ordered_at: Option<Timestamp>,
    pub applied_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub ended_by: Option<EndedBy>,
    pub undo_ms: Option<u64>,
    pub effect: EffectDocument,
    /// Why it was refused or failed.
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EffectDocument {
    pub state: EffectState,
    pub asked: Option<f64>,
    pub measured: Option<f64>,
    pub unit: Option<String>,
    pub noop: bool,
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHostDocument {
    pub name: HostName,
    /// Its label `env` when the plan was made; null where it had none. Such a host is treated as production, and is no evidence of it.
    #[serde(default)]
    pub environment: Option<String>,
    pub cleanliness: Cleanliness,
    pub residue: Vec<String>,
    pub drift: Vec<String>,
    pub consequences: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePhaseDocument {
    pub name: String,
    pub phase: Phase,
    pub samples: u32,
    pub bad: u32,
    pub missing: u32,
    /// Null when too few samples say.
    pub held: Option<bool>,
}

/// What goes wrong before or outside of a run, as `-o json` prints it on stderr.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDocument {
    pub error: ErrorBody,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Stable word: `no_targets`, `invalid_file`, `halted`, `refused`, `not_found`, ...
    pub code: String,
    pub message: String,
    #[serde(default)]
    pub problems: Vec<Problem>,
    #[serde(default)]
    pub hosts: Vec<HostError>,
}

impl ErrorBody {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            problems: Vec::new(),
            hosts: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostError {
    pub name: HostName,
    pub code: String,
    pub message: String,
}

/// Metadata key under which a failed call carries its `ErrorDocument` as JSON.
pub const ERROR_METADATA: &str = "fracas-error-bin";

/// A token without its secret; the JSON document `Token`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDocument {
    pub id: String,
    pub labels: std::collections::BTreeMap<String, String>,
    pub uses: u32,
    pub used: u32,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked: bool,
    pub created_by: String,
    /// The host whose place its bearer takes, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<HostName>,
}

/// One ordered injection that is not at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveInjection {
    pub id: InjectionId,
    pub run: RunId,
    pub host: HostName,
    pub fault: FaultKind,
    pub state: InjectionState,
    pub host_lost: bool,
    /// Until it is undone by its own duration; negative when that is over. Null before it is applied.
    pub left_ms: Option<i64>,
    /// Since its lease was last renewed, or since the host was last seen, if that is longer ago.
    pub lease_age_ms: Option<u64>,
}

/// An operator's token without its secret; the JSON document `Operator`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorDocument {
    pub id: String,
    pub name: String,
    pub role: Role,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked: bool,
    pub created_by: String,
    /// To a quarter of an hour; null when it was never used.
    pub last_used: Option<Timestamp>,
}

/// One call that changed something, or that was refused; the JSON document `AuditEntry` and a line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub id: String,
    pub at: Timestamp,
    /// Null when the caller could not be known.
    pub caller: Option<String>,
    pub role: Option<Role>,
    /// `local`, or where the call came from.
    pub address: String,
    /// Such as `Hosts/Cordon`.
    pub call: String,
    /// What the call was about, such as a host's name.
    pub subject: Option<String>,
    pub outcome: AuditOutcome,
    /// The error's stable word.
    pub code: Option<String>,
    /// Refusals of this address before this one that were counted and not listed, because there were too many.
    #[serde(default)]
    pub unlisted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    Done,
    /// Let in by the access table, and answered with an error.
    Failed,
    /// Not let in; nothing happened.
    Refused,
    /// The caller or the controller went away in the midst of it.
    Unknown,
}

impl AuditOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// The whole system in a few figures; the JSON document `Status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusDocument {
    pub version: String,
    pub halt: crate::halt::HaltState,
    pub hosts_connected: u32,
    pub hosts_lost: u32,
    pub hosts_dirty: u32,
    pub runs_active: u32,
    pub injections_active: u32,
    /// The controller's wall clock.
    #[serde(default)]
    pub now: Timestamp,
    /// The clock by which tests are due; not `now` only while a drill has moved it.
    #[serde(default)]
    pub cadence_now: Timestamp,
    /// At most 1,000, those that end last.
    #[serde(default)]
    pub injections: Vec<ActiveInjection>,
    /// Who the caller is to the controller.
    pub caller: String,
    #[serde(default)]
    pub role: Option<Role>,
    /// Connected hosts that have not answered the halt that is in force: they may still be undoing.
    #[serde(default)]
    pub silent: Vec<HostName>,
    /// Since the controller started: calls whose caller could not be known.
    #[serde(default)]
    pub failed_authentications: u64,
    /// What an administrator has to do before long.
    #[serde(default)]
    pub warnings: Vec<String>,
}
