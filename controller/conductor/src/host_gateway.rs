//! The port to hosts: the orders that a run gives them, and the events that they send. It knows no wire.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use proto_model::catalogue::Catalogue;
use proto_model::doctor::HostDoctor;
use proto_model::halt::HaltState;
use proto_model::host::Host;
use proto_model::id::{HostName, InjectionId, PlanDigest, RunId};
use proto_model::injection::{AgentReport, CleanProof, EndedBy, Injection, PreflightAnswer, Wish};
use proto_model::probe::{ProbeSpec, Sample};
use proto_model::time::Timestamp;

/// Why a host did not do, or did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    #[error("host {0} is not connected")]
    Lost(HostName),
    #[error("host {host} did not answer {what} within {ms} ms")]
    Timeout { host: HostName, what: &'static str, ms: u64 },
    #[error(
        "host {host} was not asked for {what}: {ms} ms were not enough for those before it; see which hosts do not answer, and try again"
    )]
    Busy { host: HostName, what: &'static str, ms: u64 },
    #[error("host {host} refused the order: {message} ({code})")]
    OrderRefused { host: HostName, code: String, message: String },
    #[error("halted: {0}")]
    Halted(String),
}

/// What a preflight or a hello told about the host at that moment.
#[derive(Debug, Clone, PartialEq)]
pub struct PreflightReply {
    pub answers: Vec<PreflightAnswer>,
    pub boot_id: String,
    pub agent_version: String,
    pub kernel: String,
    pub catalogue_digest: String,
}

/// What hosts say without being asked.
#[derive(Debug, Clone, PartialEq)]
pub enum HostEvent {
    /// A fact about an injection; ends are repeated until `settle`.
    Report {
        host: HostName,
        report: AgentReport,
    },
    Samples {
        host: HostName,
        run: RunId,
        samples: Vec<Sample>,
    },
    /// No stream any more.
    Lost {
        host: HostName,
        last_seen: Timestamp,
    },
    /// A session is up (again). `inventory` is what it still owes: injection, run, finished.
    Returned {
        host: HostName,
        boot_id: String,
        /// What the host's boot clock said in its hello.
        boot_ms: u64,
        rebooted: bool,
        downtime_ms: u64,
        inventory: Vec<(InjectionId, String, bool)>,
    },
    /// A host has brought a newer halt than the controller knew. It is in the latch, and hosts are sent it.
    Halted(HaltState),
}

/// How a halt or a release went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HaltOutcome {
    pub told: Vec<HostName>,
    pub answered: Vec<HostName>,
    pub undone: u32,
    pub took_ms: u64,
}

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Orders to hosts, each with a deadline. Implemented by the dispatcher, and by a scripted fleet in tests.
pub trait HostGateway: Send + Sync {
    /// Every host that is not removed, as it is now; those that did not change since the last look are shared with it.
    fn hosts(&self) -> Vec<Arc<Host>>;
    /// One of them.
    fn host(&self, host: &HostName) -> Option<Arc<Host>>;
    fn catalogue(&self, host: &HostName) -> Option<Arc<Catalogue>>;
    fn boot_id(&self, host: &HostName) -> Option<String>;

    fn preflight<'a>(&'a self, host: &'a HostName, wishes: Vec<Wish>) -> BoxFuture<'a, Result<PreflightReply, GatewayError>>;
    /// Sends the order; what becomes of it arrives as reports.
    fn start<'a>(
        &'a self,
        host: &'a HostName,
        run: &'a RunId,
        injection: &'a Injection,
        digest: &'a PlanDigest,
        lease_ms: u64,
    ) -> BoxFuture<'a, Result<(), GatewayError>>;
    fn stop<'a>(&'a self, host: &'a HostName, injection: &'a InjectionId, cause: EndedBy) -> BoxFuture<'a, Result<(), GatewayError>>;
    /// Renews; lost hosts are skipped: their leases run out, which is the point.
    fn renew(&self, host: &HostName, injections: &[InjectionId], lease_ms: u64);
    /// What a host can do; nothing is changed there.
    fn doctor<'a>(&'a self, host: &'a HostName) -> BoxFuture<'a, Result<HostDoctor, GatewayError>>;
    fn verify<'a>(&'a self, host: &'a HostName, injections: Vec<InjectionId>) -> BoxFuture<'a, Result<CleanProof, GatewayError>>;
    /// The ends of these injections are durable here.
    fn settle(&self, host: &HostName, injections: &[InjectionId]);
    fn probe_start(&self, host: &HostName, run: &RunId, probe: &ProbeSpec) -> Result<(), GatewayError>;
    fn probe_stop(&self, host: &HostName, run: &RunId);
    /// A person answers for this dirty host.
    fn accept<'a>(&'a self, host: &'a HostName, by: &'a str, reason: &'a str) -> BoxFuture<'a, Result<(), GatewayError>>;
    /// Reads again what is stored about a host, because it has changed (labels, cordon, cleanliness). Ends sessions that it no longer allows.
    fn refresh<'a>(&'a self, host: &'a HostName) -> BoxFuture<'a, ()>;
    /// Ends the sessions of this host now and lets it begin no other; whether that is stored is another matter.
    fn lock(&self, _host: &HostName, _reason: &str) {}
    /// Connected hosts that have not answered the halt or release of this epoch.
    fn silent(&self, _epoch: u64) -> Vec<HostName> {
        Vec::new()
    }
    /// Tells every connected host at once and waits at most `wait_ms` for their answers.
    fn halt<'a>(&'a self, state: HaltState, wait_ms: u64) -> BoxFuture<'a, HaltOutcome>;
}
