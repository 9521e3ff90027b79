//! What the machine keeps in mind about injections, probes and hosts between two inputs.

use proto_model::event::StepOutcome;
use proto_model::id::HostName;
use proto_model::injection::{Cleanliness, EndedBy, Injection, InjectionState};
use proto_model::probe::{ProbeRole, ProbeSpec, Prober, RECOVERED_RUN, Sample, SampleResult};
use proto_model::time::Timestamp;

/// What samples say of their prober when it is this program.
pub(crate) const CONTROLLER: &str = "controller";
/// How far apart a host's batches of samples are, with time on the way.
pub(crate) const BATCH_MS: u64 = 1_500;

/// One injection of this run.
#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    pub injection: Injection,
    pub state: InjectionState,
    pub ordered_at: Option<Timestamp>,
    pub applied_at: Option<Timestamp>,
    pub ending_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub ended_by: Option<EndedBy>,
    pub last_renewed: Option<Timestamp>,
    /// When a stop was asked for, first and last.
    pub stop_first_asked: Option<Timestamp>,
    pub stop_asked: Option<Timestamp>,
    /// The code of its refusal.
    pub refused: Option<String>,
    /// Facts taken, by boot and number: repeats are left out.
    pub seen: std::collections::BTreeSet<(String, u64)>,
}

impl Tracked {
    pub fn new(injection: Injection) -> Self {
        Self {
            injection,
            state: InjectionState::Planned,
            ordered_at: None,
            applied_at: None,
            ending_at: None,
            ended_at: None,
            ended_by: None,
            last_renewed: None,
            stop_first_asked: None,
            stop_asked: None,
            refused: None,
            seen: std::collections::BTreeSet::new(),
        }
    }

    /// Not ordered, and not withdrawn.
    pub fn is_planned(&self) -> bool {
        self.state == InjectionState::Planned
    }

    /// The host said no, could not do it, or did not hold it to its end.
    pub fn has_failed(&self) -> bool {
        let ended = matches!(self.ended_by, Some(EndedBy::ApplyFailed | EndedBy::EndedEarly));
        ended || self.state == InjectionState::Refused
    }

    /// Ordered and not yet over.
    pub fn is_out(&self) -> bool {
        self.ordered_at.is_some() && !self.state.is_terminal()
    }

    /// The end of its time as the controller's clock sees it.
    pub fn deadline(&self) -> Option<Timestamp> {
        let from = self.applied_at.or(self.ordered_at)?;
        Some(from.plus_ms(self.injection.duration_ms))
    }

    /// Boot time when nothing of it can act any more although nobody was heard: the later of deadline and lease.
    pub fn surely_over(&self, lease_ms: u64) -> Option<Timestamp> {
        let lease = self.last_renewed.or(self.ordered_at)?.plus_ms(lease_ms);
        Some(self.deadline()?.max(lease))
    }
}

/// Whether a step may be ordered beside what all runs inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Unasked,
    Asked(Timestamp),
    Given,
}

/// One step that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepTrack {
    pub started: Timestamp,
    pub ended: Option<StepOutcome>,
    pub room: Room,
}

impl StepTrack {
    pub fn new(started: Timestamp) -> Self {
        Self {
            started,
            ended: None,
            room: Room::Unasked,
        }
    }

    pub fn has_or_wants_room(&self) -> bool {
        self.ended.is_none() && self.room != Room::Unasked
    }
}

/// One probe of this run as one prober asks it.
#[derive(Debug, Clone)]
pub(crate) struct ProbeTrack {
    pub spec: ProbeSpec,
    pub prober: String,
    /// When the last sample came in or was declared missing, or sampling began.
    pub heard_at: Option<Timestamp>,
    /// When the last sample of the prober itself came in, or sampling began.
    pub evaluated_at: Option<Timestamp>,
    pub consecutive_bad: u32,
    pub last_error: Option<String>,
    /// After the last undo: good samples in a row, and when the last bad one ended.
    pub good_run: u32,
    pub last_bad_end: Option<Timestamp>,
    pub recovered: bool,
}

impl ProbeTrack {
    /// One track for each prober of the probe.
    pub fn of(spec: &ProbeSpec) -> Vec<Self> {
        let probers = match &spec.from {
            Prober::Controller => vec![CONTROLLER.to_owned()],
            Prober::Hosts(hosts) => hosts.iter().map(ToString::to_string).collect(),
        };
        let track = |prober| Self {
            spec: spec.clone(),
            prober,
            heard_at: None,
            evaluated_at: None,
            consecutive_bad: 0,
            last_error: None,
            good_run: 0,
            last_bad_end: None,
            recovered: false,
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

    /// Counts a sample from after the last undo.
    pub fn take_after(&mut self, sample: &Sample) {
        match sample.result {
            SampleResult::Good => self.good_run += 1,
            SampleResult::Bad => {
                self.good_run = 0;
                self.last_bad_end = Some(sample.started_at.plus_ms(sample.took_ms));
            }
            SampleResult::Missing => self.good_run = 0,
        }
        self.recovered |= self.good_run >= RECOVERED_RUN;
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

/// One host of this run, and what it proved.
#[derive(Debug, Clone)]
pub(crate) struct HostTrack {
    pub name: HostName,
    pub connected: bool,
    pub lost_at: Option<Timestamp>,
    /// When its session was last lost or found.
    pub changed_at: Option<Timestamp>,
    /// When it was lost the time before it came back.
    pub returned_from: Option<Timestamp>,
    /// When its proof was last asked for, and whether the answer is still out.
    pub asked_at: Option<Timestamp>,
    pub asking: bool,
    pub proven: Option<Cleanliness>,
}

impl HostTrack {
    pub fn new(name: HostName, connected: bool, now: Timestamp) -> Self {
        Self {
            name,
            connected,
            lost_at: (!connected).then_some(now),
            changed_at: None,
            returned_from: None,
            asked_at: None,
            asking: false,
            proven: None,
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
