//! Events of a run: append-only, versioned, the only input of judge, report and exports.

use serde::{Deserialize, Serialize};

use crate::id::{HostName, InjectionId, PlanDigest, RunId};
use crate::injection::{AgentFact, Applied, CleanProof, Ending, Injection, Observed, Spent, UndoFailed, Undone};
use crate::plan::Plan;
use crate::probe::{Phase, ProbeRole, Sample};
use crate::problem::Refusal;
use crate::time::Timestamp;
use crate::verdict::{Cleanup, Reason, RunEndedBy, Verdict};

/// The version of the event bodies below.
pub const SCHEMA_VERSION: u32 = 1;

/// One line of a run's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub run_id: RunId,
    /// Dense from 1.
    pub seq: u64,
    pub version: u32,
    pub at: Timestamp,
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<AgentSource>,
    #[serde(flatten)]
    pub body: EventBody,
}

/// What makes an agent's fact idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSource {
    pub boot_id: String,
    pub boot_ms: u64,
    pub agent_seq: u64,
    /// When it was, by the controller's clock: the host's boot clock mapped by what was heard of it in its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub happened_at: Option<Timestamp>,
}

impl Event {
    /// A fact was before it was heard of; everything else is when it is recorded.
    pub fn happened_at(&self) -> Timestamp {
        let fact = self.source.as_ref().and_then(|source| source.happened_at);
        fact.map_or(self.at, |at| at.min(self.at))
    }
}

/// An event not yet numbered and stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub at: Timestamp,
    pub by: String,
    pub source: Option<AgentSource>,
    pub body: EventBody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    Accepted,
    Preflight,
    Before,
    During,
    After,
    Stopping,
    Verifying,
    Finished,
}

impl RunPhase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Preflight => "preflight",
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
            Self::Stopping => "stopping",
            Self::Verifying => "verifying",
            Self::Finished => "finished",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    Done,
    Failed,
    Cancelled,
    Skipped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    Operator,
    Halt,
    Guard,
    Limit,
    HostLost,
    /// An injection was refused, not carried out, or ended early.
    Failure,
    /// The baseline was not steady; nothing was injected.
    Baseline,
    ControllerRestart,
}

impl StopCause {
    pub fn ended_by(self) -> RunEndedBy {
        match self {
            Self::Operator => RunEndedBy::Operator,
            Self::Halt => RunEndedBy::Halt,
            Self::Guard => RunEndedBy::Guard,
            Self::Limit => RunEndedBy::Limit,
            Self::HostLost => RunEndedBy::HostLost,
            Self::Failure => RunEndedBy::Failure,
            Self::Baseline => RunEndedBy::Completed,
            Self::ControllerRestart => RunEndedBy::ControllerRestart,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum EventBody {
    #[serde(rename = "run.accepted")]
    RunAccepted {
        digest: PlanDigest,
        plan: Box<Plan>,
        injections: Vec<Injection>,
        idempotency_key: Option<String>,
        halt_epoch: u64,
    },
    #[serde(rename = "run.phase")]
    RunPhase { from: RunPhase, to: RunPhase },
    #[serde(rename = "host.preflight")]
    HostPreflight {
        host: HostName,
        accepted: bool,
        refusals: Vec<Refusal>,
        warnings: Vec<String>,
        boot_id: String,
        agent_version: String,
        kernel: String,
        catalogue_digest: String,
    },
    #[serde(rename = "probe.sampled")]
    ProbeSampled {
        role: ProbeRole,
        phase: Phase,
        #[serde(flatten)]
        sample: Sample,
    },
    #[serde(rename = "guard.broken")]
    GuardBroken {
        guard: String,
        consecutive: u32,
        phase: Phase,
        last_error: Option<String>,
    },
    #[serde(rename = "step.started")]
    StepStarted { path: String, planned_at: Timestamp },
    #[serde(rename = "step.ended")]
    StepEnded { path: String, outcome: StepOutcome },
    #[serde(rename = "injection.ordered")]
    InjectionOrdered {
        id: InjectionId,
        step: String,
        host: HostName,
        duration_ms: u64,
        lease_ms: u64,
    },
    #[serde(rename = "injection.withdrawn")]
    InjectionWithdrawn { id: InjectionId, reason: String },
    #[serde(rename = "injection.refused")]
    InjectionRefused {
        id: InjectionId,
        #[serde(flatten)]
        refusal: Refusal,
    },
    #[serde(rename = "injection.applied")]
    InjectionApplied {
        id: InjectionId,
        #[serde(flatten)]
        applied: Applied,
    },
    #[serde(rename = "injection.observed")]
    InjectionObserved {
        id: InjectionId,
        #[serde(flatten)]
        observed: Observed,
    },
    #[serde(rename = "injection.ending")]
    InjectionEnding {
        id: InjectionId,
        #[serde(flatten)]
        ending: Ending,
    },
    #[serde(rename = "injection.undone")]
    InjectionUndone {
        id: InjectionId,
        #[serde(flatten)]
        undone: Undone,
    },
    #[serde(rename = "injection.undo_failed")]
    InjectionUndoFailed {
        id: InjectionId,
        #[serde(flatten)]
        failed: UndoFailed,
    },
    #[serde(rename = "injection.spent")]
    InjectionSpent {
        id: InjectionId,
        #[serde(flatten)]
        spent: Spent,
    },
    /// Reports of a host about one injection that were over its quota, counted once at the end of the run.
    #[serde(rename = "injection.reports_dropped")]
    ReportsDropped {
        id: InjectionId,
        host: HostName,
        reports: u64,
        bytes: u64,
    },
    #[serde(rename = "lease.lapsed")]
    LeaseLapsed { host: HostName, injections: Vec<InjectionId> },
    #[serde(rename = "host.lost")]
    HostLost {
        host: HostName,
        injections: Vec<InjectionId>,
        last_seen: Timestamp,
    },
    #[serde(rename = "host.returned")]
    HostReturned {
        host: HostName,
        injections: Vec<InjectionId>,
        boot_id: String,
        rebooted: bool,
        downtime_ms: u64,
    },
    #[serde(rename = "stop.requested")]
    StopRequested {
        cause: StopCause,
        reason: String,
        guard: Option<String>,
        halt_epoch: Option<u64>,
    },
    #[serde(rename = "host.verified")]
    HostVerified {
        host: HostName,
        #[serde(flatten)]
        proof: CleanProof,
    },
    #[serde(rename = "controller.restarted")]
    ControllerRestarted { down_ms: u64 },
    #[serde(rename = "hypothesis.recovered")]
    HypothesisRecovered { probe: String, recovery_ms: u64 },
    #[serde(rename = "run.judged")]
    RunJudged {
        verdict: Verdict,
        cleanup: Cleanup,
        exit_code: u8,
        ended_by: RunEndedBy,
        reasons: Vec<Reason>,
        detection_ms: Option<u64>,
        recovery_ms: Option<u64>,
        judge_version: u32,
    },
    #[serde(rename = "run.amended")]
    RunAmended {
        cleanup: Cleanup,
        hosts: Vec<HostName>,
        cause: String,
    },
    #[serde(rename = "note.added")]
    NoteAdded { text: String },
}

impl EventBody {
    /// The event an agent's fact becomes.
    pub fn from_fact(id: InjectionId, fact: AgentFact) -> Self {
        match fact {
            AgentFact::Refused(refusal) => Self::InjectionRefused { id, refusal },
            AgentFact::Applied(applied) => Self::InjectionApplied { id, applied },
            AgentFact::Observed(observed) => Self::InjectionObserved { id, observed },
            AgentFact::Ending(ending) => Self::InjectionEnding { id, ending },
            AgentFact::Undone(undone) => Self::InjectionUndone { id, undone },
            AgentFact::UndoFailed(failed) => Self::InjectionUndoFailed { id, failed },
            AgentFact::Spent(spent) => Self::InjectionSpent { id, spent },
        }
    }
}

/// Fleet log: what happened to hosts, tokens and the latch outside of any run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetEvent {
    pub seq: u64,
    pub at: Timestamp,
    /// Who: a user name with its context, or `controller`.
    pub by: String,
    /// Where from: an address, `local`, or empty.
    pub address: String,
    #[serde(flatten)]
    pub body: FleetEventBody,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum FleetEventBody {
    #[serde(rename = "host.enrolled")]
    HostEnrolled { host: HostName, token: String },
    #[serde(rename = "host.renewed")]
    HostRenewed { host: HostName, not_after: Timestamp },
    #[serde(rename = "host.described")]
    HostDescribed {
        host: HostName,
        agent_version: String,
        boot_id: String,
        catalogue_digest: String,
    },
    #[serde(rename = "host.labelled")]
    HostLabelled {
        host: HostName,
        set: std::collections::BTreeMap<String, String>,
        removed: Vec<String>,
    },
    #[serde(rename = "host.cordoned")]
    HostCordoned { host: HostName, cordoned: bool, reason: String },
    #[serde(rename = "host.cleanliness")]
    HostCleanliness { host: HostName, proof: CleanProof },
    #[serde(rename = "host.accepted")]
    HostAccepted { host: HostName, reason: String },
    #[serde(rename = "host.clone_seen")]
    HostCloneSeen { host: HostName, note: String },
    #[serde(rename = "host.locked")]
    HostLocked { host: HostName, locked: bool, reason: String },
    #[serde(rename = "host.removed")]
    HostRemoved { host: HostName, reason: String, forced: bool },
    #[serde(rename = "host.replaced")]
    HostReplaced { host: HostName, token: String },
    #[serde(rename = "operator.created")]
    OperatorCreated {
        id: String,
        name: String,
        role: crate::role::Role,
        expires_at: Timestamp,
    },
    #[serde(rename = "operator.revoked")]
    OperatorRevoked { id: String, name: String },
    #[serde(rename = "token.created")]
    TokenCreated { id: String, uses: u32, expires_at: Timestamp },
    #[serde(rename = "token.revoked")]
    TokenRevoked { id: String },
    #[serde(rename = "halt.changed")]
    HaltChanged { epoch: u64, engaged: bool, reason: String },
    /// Added, paused, resumed or removed.
    #[serde(rename = "schedule.changed")]
    ScheduleChanged { schedule: String, id: String, change: String },
    #[serde(rename = "schedule.tick")]
    ScheduleTick {
        schedule: String,
        planned_at: Timestamp,
        state: crate::schedule::TickState,
        reason: Option<crate::schedule::SkipReason>,
        run: Option<RunId>,
    },
    /// Added or removed.
    #[serde(rename = "freeze.changed")]
    FreezeChanged {
        id: String,
        change: String,
        from: Timestamp,
        until: Timestamp,
        reason: String,
        environment: Option<String>,
    },
    #[serde(rename = "controller.started")]
    ControllerStarted { version: String },
    #[serde(rename = "service.applied")]
    ServiceApplied { service: String, digest: String },
    #[serde(rename = "service.removed")]
    ServiceRemoved { service: String },
    #[serde(rename = "results.published")]
    Published { place: String, digest: String },
    #[serde(rename = "call.made")]
    CallMade { method: String, target: String },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::injection::{EffectState, EndedBy, Observation, UndoAnswer};

    #[test]
    fn events_survive_json_with_their_published_names() {
        let id = InjectionId::generate();
        let observation = Observation {
            asked: Some(60.0),
            measured: Some(59.5),
            unit: "percent".into(),
            state: EffectState::Confirmed,
            note: None,
        };
        let undone = Undone {
            ended_by: EndedBy::LeaseLost,
            undone_by: "agent".into(),
            undo_ms: 41,
            answer: UndoAnswer::UndoneNow,
            drift: vec![],
        };
        for (name, body) in [
            (
                "injection.observed",
                EventBody::InjectionObserved {
                    id: id.clone(),
                    observed: Observed {
                        window: 1,
                        window_ms: 5000,
                        observation,
                    },
                },
            ),
            ("injection.undone", EventBody::InjectionUndone { id: id.clone(), undone }),
            (
                "injection.refused",
                EventBody::InjectionRefused {
                    id: id.clone(),
                    refusal: Refusal::new("policy", "params.percent", "too much").allowed("1..50"),
                },
            ),
            (
                "run.phase",
                EventBody::RunPhase {
                    from: RunPhase::Before,
                    to: RunPhase::During,
                },
            ),
        ] {
            let event = Event {
                run_id: RunId::generate(),
                seq: 1,
                version: SCHEMA_VERSION,
                at: Timestamp(5),
                by: "root@local".into(),
                source: None,
                body,
            };
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["type"], name);
            assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
        }
    }
}
