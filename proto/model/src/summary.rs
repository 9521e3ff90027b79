//! A run in a few figures, of the same size however many hosts it had: what lists show, kept once a run is finished.

use serde::{Deserialize, Serialize};

use crate::document::{PlanRef, RunDocument};
use crate::event::RunPhase;
use crate::id::RunId;
use crate::injection::Cleanliness;
use crate::plan::Origin;
use crate::time::Timestamp;
use crate::verdict::{Cleanup, RunEndedBy, Verdict};

/// The items of `RunList`: the document `Run` without what grows with its hosts; figures stand in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    pub id: RunId,
    pub name: String,
    pub origin: Origin,
    pub service: Option<String>,
    pub environment: String,
    pub state: RunPhase,
    pub verdict: Option<Verdict>,
    pub exit_code: Option<u8>,
    pub ended_by: Option<RunEndedBy>,
    pub cleanup: Cleanup,
    /// The first of its reasons, in words.
    pub reason: Option<String>,
    pub plan: PlanRef,
    pub by: String,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub hosts_total: u32,
    /// Hosts that are not proven clean.
    pub hosts_unclean: u32,
    pub injections_total: u32,
    pub detection_ms: Option<u64>,
    pub recovery_ms: Option<u64>,
}

impl From<&RunDocument> for RunSummary {
    fn from(run: &RunDocument) -> Self {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            id: run.id.clone(),
            name: run.name.clone(),
            origin: run.origin,
            service: run.service.clone(),
            environment: run.environment.clone(),
            state: run.state,
            verdict: run.verdict,
            exit_code: run.exit_code,
            ended_by: run.ended_by,
            cleanup: run.cleanup,
            reason: run.reasons.first().map(|reason| reason.message.clone()),
            plan: run.plan.clone(),
            by: run.by.clone(),
            created_at: run.created_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            hosts_total: count(run.hosts.len()),
            hosts_unclean: count(run.hosts.iter().filter(|host| host.cleanliness != Cleanliness::Clean).count()),
            injections_total: count(run.injections.len()),
            detection_ms: run.detection_ms,
            recovery_ms: run.recovery_ms,
        }
    }
}
