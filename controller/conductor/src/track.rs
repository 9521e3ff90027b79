//! What the machine keeps in mind about injections, probes and hosts between two inputs.

use controller_report::InjectionStatus;
use proto_model::probe::{ProbeRole, ProbeSpec, Prober, Sample, SampleResult, SampledBy};
use proto_model::time::Timestamp;

use crate::admissible::ReportQuota;

/// How far apart a host's batches of samples are, with time on the way.
pub(crate) const BATCH_MS: u64 = 1_500;

/// What was asked of an injection's host, and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct InjectionDrive {
    pub last_renewed: Option<Timestamp>,
    /// When a stop was asked for, first and last.
    pub stop_first_asked: Option<Timestamp>,
    pub stop_asked: Option<Timestamp>,
    pub quota: ReportQuota,
}

impl InjectionDrive {
    /// When nothing of it can act any more although its host is silent: the later of deadline and lease.
    pub fn surely_over(&self, i: &InjectionStatus, lease_ms: u64) -> Option<Timestamp> {
        let lease = self.last_renewed.or(i.ordered_at)?.plus_ms(lease_ms);
        Some(i.deadline()?.max(lease))
    }
}

/// Whether a step may be ordered beside what all runs inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Asked(Timestamp),
    Given,
}

/// One probe of this run as one prober asks it.
#[derive(Debug, Clone)]
pub(crate) struct ProbeTrack {
    pub spec: ProbeSpec,
    pub prober: SampledBy,
    /// When the last sample came in or was declared missing, or sampling began.
    pub heard_at: Option<Timestamp>,
    /// When the last sample of the prober itself came in, or sampling began.
    pub evaluated_at: Option<Timestamp>,
    pub consecutive_bad: u32,
    pub last_error: Option<String>,
}

impl ProbeTrack {
    /// One track for each prober of the probe.
    pub fn of(spec: &ProbeSpec) -> Vec<Self> {
        let probers = match &spec.from {
            Prober::Controller => vec![SampledBy::Controller],
            Prober::Hosts(hosts) => hosts.iter().cloned().map(SampledBy::Host).collect(),
        };
        let track = |prober| Self {
            spec: spec.clone(),
            prober,
            heard_at: None,
            evaluated_at: None,
            consecutive_bad: 0,
            last_error: None,
        };
        probers.into_iter().map(track).collect()
    }

    /// From now on samples are due.
    pub fn begin(&mut self, now: Timestamp) {
        (self.heard_at, self.evaluated_at) = (Some(now), Some(now));
    }

    /// Whether nobody has looked for longer than is ordinary; a sample that stands for silence is nobody.
    pub fn is_blind(&self, now: Timestamp) -> bool {
        self.evaluated_at.is_some_and(|at| now.since(at) > self.patience_ms())
    }

    pub fn is_guard(&self) -> bool {
        self.spec.role == ProbeRole::Guard
    }

    pub fn take(&mut self, now: Timestamp, sample: &Sample) {
        self.heard_at = Some(now);
        if sample.result == SampleResult::Good {
            self.consecutive_bad = 0;
            self.last_error = None;
        } else {
            self.consecutive_bad += 1;
            self.last_error.clone_from(&sample.error);
        }
    }

    /// How long silence is ordinary: hosts send their samples in batches, one each second.
    pub fn patience_ms(&self) -> u64 {
        2 * self.spec.every_ms + self.spec.timeout_ms + BATCH_MS
    }

    /// How long ago it was heard, when that is longer than its patience.
    pub fn silent_for(&self, now: Timestamp) -> Option<u64> {
        let silence = now.since(self.heard_at?);
        (silence > self.patience_ms()).then_some(silence)
    }

    /// After a sample that stands for silence the next one is due in one beat, not in a whole patience.
    pub fn declare_silent(&mut self, now: Timestamp) {
        let head_start = self.patience_ms() - self.spec.every_ms;
        self.heard_at = Some(Timestamp(now.0.saturating_sub(i64::try_from(head_start).unwrap_or(0))));
    }
}

/// One host of this run.
#[derive(Debug, Clone)]
pub(crate) struct HostTrack {
    pub connected: bool,
    pub lost_at: Option<Timestamp>,
    /// When its session was last lost or found.
    pub changed_at: Option<Timestamp>,
    /// When it was lost the time before it came back.
    pub returned_from: Option<Timestamp>,
    /// When its proof was last asked for, and whether the answer is still out.
    pub asked_at: Option<Timestamp>,
    pub asking: bool,
}

impl HostTrack {
    pub fn new(connected: bool, now: Timestamp) -> Self {
        Self {
            connected,
            lost_at: (!connected).then_some(now),
            changed_at: None,
            returned_from: None,
            asked_at: None,
            asking: false,
        }
    }

    /// Whatever was asked over the old session will not be answered.
    pub fn reconnect(&mut self, connected: bool, at: Timestamp) {
        self.connected = connected;
        self.lost_at = (!connected).then_some(at);
        self.changed_at = Some(at);
        (self.asked_at, self.asking) = (None, false);
    }
}
