//! The conductor: one input at a time, a decision in answer. No clock, no store, no network in here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use controller_report::RunState;
use proto_model::event::{AgentSource, Event, EventBody, NewEvent, RunPhase, SCHEMA_VERSION, StopCause};
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{AgentReport, CleanProof, EndedBy, Injection, Wish};
use proto_model::plan::Plan;
use proto_model::probe::{Prober, Sample, SampledBy};
use proto_model::time::Timestamp;

use crate::host_gateway::{GatewayError, PreflightReply};
use crate::settings::Settings;
use crate::track::{HostTrack, InjectionDrive, ProbeTrack, Room};

/// The longest that the machine is left alone while nothing is heard.
const LONGEST_WAIT_MS: u64 = 200;

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    Begin,
    Tick,
    Preflight {
        host: HostName,
        reply: Result<PreflightReply, GatewayError>,
    },
    Report {
        host: HostName,
        report: AgentReport,
        /// By the controller's clock.
        happened_at: Timestamp,
    },
    /// `from` is who brought it, by identity; a sample that names another prober does not count.
    Sample {
        from: SampledBy,
        sample: Sample,
    },
    /// Whether what is to be injected now fits beside what all runs inject; the reason when it does not.
    Room {
        step: String,
        answer: Result<(), String>,
    },
    OrderFailed {
        injection: InjectionId,
        error: GatewayError,
    },
    HostLost {
        host: HostName,
        last_seen: Timestamp,
    },
    HostReturned {
        host: HostName,
        boot_id: String,
        rebooted: bool,
        downtime_ms: u64,
        /// What the host still owes something for.
        inventory: Vec<InjectionId>,
    },
    Verified {
        host: HostName,
        proof: Result<CleanProof, GatewayError>,
    },
    Stop {
        cause: StopCause,
        reason: String,
        by: String,
        halt_epoch: Option<u64>,
    },
}

/// What is to be done, after what was decided is on record.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Preflight {
        host: HostName,
        wishes: Vec<Wish>,
    },
    StartProbes,
    /// The host's probes have to be started again: its session is a new one.
    ProbeAgain {
        host: HostName,
    },
    StopProbes,
    /// Count what acts at this moment, over all runs, before this step is ordered.
    Room {
        step: String,
    },
    Order {
        injection: Injection,
    },
    Stop {
        host: HostName,
        injection: InjectionId,
        cause: EndedBy,
    },
    Renew {
        host: HostName,
        injections: Vec<InjectionId>,
    },
    Verify {
        host: HostName,
        injections: Vec<InjectionId>,
    },
    Settle {
        host: HostName,
        injections: Vec<InjectionId>,
    },
    Finished,
}

/// First record, then act.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    pub record: Vec<NewEvent>,
    pub act: Vec<Action>,
}

/// One run: its state as the record has it, and what only driving it needs.
pub struct Conductor {
    pub(crate) state: RunState,
    pub(crate) settings: Settings,
    /// By place of the injection, what was asked of its host when.
    pub(crate) drives: Vec<InjectionDrive>,
    pub(crate) probes: Vec<ProbeTrack>,
    /// Whether the probes have been started, and not stopped again.
    pub(crate) probing: bool,
    /// Samples of a run that is being stopped while it is not known yet when the last injection ended.
    pub(crate) unplaced: VecDeque<Sample>,
    pub(crate) hosts: BTreeMap<HostName, HostTrack>,
    pub(crate) unanswered_preflights: BTreeSet<HostName>,
    /// By step, whether it may be ordered.
    pub(crate) rooms: BTreeMap<String, Room>,
    /// When this controller took the run up from a former one.
    resumed_at: Option<Timestamp>,
    /// When something last went forward: limits for many hosts count from then.
    pub(crate) progress_at: Timestamp,
    /// Hosts that have not proven that they are clean, while the run verifies.
    pub(crate) unproven: BTreeSet<HostName>,
    /// Places of the injections that the current input is about.
    pub(crate) changed: Vec<usize>,
    /// Whether time has to be held against everything, not only against what has changed.
    pub(crate) thorough: bool,
    /// The next moment at which time alone changes something.
    due: Timestamp,
    pub(crate) decision: Decision,
}

impl Conductor {
    /// A run from its first event on; `connected` are the hosts that have a session now.
    pub fn new(events: &[Event], connected: &[HostName], settings: Settings) -> Option<Self> {
        let state = RunState::of(events)?;
        let plan = state.plan.clone();
        let mut names: Vec<HostName> = plan.hosts.iter().map(|h| h.name.clone()).collect();
        for probe in plan.probes() {
            if let Prober::Hosts(hosts) = &probe.from {
                names.extend(hosts.iter().cloned());
            }
        }
        let connected: BTreeSet<&HostName> = connected.iter().collect();
        let host = |name: HostName| {
            let track = HostTrack::new(connected.contains(&name), state.created_at);
            (name, track)
        };
        Some(Self {
            settings,
            drives: vec![InjectionDrive::default(); state.injections.len()],
            probes: plan.probes().flat_map(ProbeTrack::of).collect(),
            probing: false,
            unplaced: VecDeque::new(),
            hosts: names.into_iter().map(host).collect(),
            unanswered_preflights: BTreeSet::new(),
            rooms: BTreeMap::new(),
            resumed_at: None,
            progress_at: state.last_at,
            unproven: BTreeSet::new(),
            changed: Vec::new(),
            thorough: true,
            due: state.last_at,
            state,
            decision: Decision::default(),
        })
    }

    /// A run that a former controller left unfinished: read back, stopped, and to be proven clean.
    pub fn resume(events: &[Event], connected: &[HostName], settings: Settings, now: Timestamp) -> Option<(Self, Decision)> {
        let mut conductor = Self::new(events, connected, settings)?;
        let down_ms = events.last().map_or(0, |last| now.since(last.at));
        for host in conductor.hosts.values_mut() {
            host.reconnect(host.connected, now);
        }
        let decision = conductor.restarted(now, down_ms);
        Some((conductor, decision))
    }

    pub fn run(&self) -> &RunId {
        &self.state.run
    }

    pub fn plan(&self) -> &Plan {
        &self.state.plan
    }

    pub fn is_finished(&self) -> bool {
        self.phase() == RunPhase::Finished
    }

    /// Injections that are ordered and not over: the controller knows them.
    pub fn out(&self) -> impl Iterator<Item = &Injection> {
        self.state.injections.iter().filter(|i| i.is_out()).map(|i| &i.injection)
    }

    /// Every injection of the run, whatever became of it.
    pub fn injections(&self) -> impl Iterator<Item = &Injection> {
        self.state.injections.iter().map(|i| &i.injection)
    }

    /// Every host that the run injects or probes from.
    pub fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.keys()
    }

    pub(crate) fn phase(&self) -> RunPhase {
        self.state.phase
    }

    /// When the run came into its phase; an unfinished run that was taken up again is in it from then on.
    pub(crate) fn phase_since(&self) -> Timestamp {
        let entered = self.state.phases.last().map_or(self.state.created_at, |(_, at)| *at);
        self.resumed_at.map_or(entered, |resumed| resumed.max(entered))
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.resumed_at.is_some()
    }

    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// One input, one decision. Everything recorded is already part of the machine's state when this returns.
    pub fn step(&mut self, now: Timestamp, input: Input) -> Decision {
        self.changed.clear();
        self.thorough = matches!(input, Input::Tick | Input::Begin | Input::Stop { .. });
        if self.thorough {
            self.due = now.plus_ms(LONGEST_WAIT_MS);
        }
        match input {
            Input::Begin => self.begin(now),
            Input::Tick => self.tick(now),
            Input::Preflight { host, reply } => self.take_preflight(now, &host, reply),
            Input::Report { host, report, happened_at } => self.take_report(now, &host, report, happened_at),
            Input::Sample { from, sample } => self.take_sample(now, &from, sample),
            Input::Room { step, answer } => self.take_room(now, &step, answer),
            Input::OrderFailed { injection, error } => self.order_failed(now, &injection, &error),
            Input::HostLost { host, last_seen } => self.host_lost(now, &host, last_seen),
            Input::HostReturned {
                host,
                boot_id,
                rebooted,
                downtime_ms,
                inventory,
            } => {
                self.host_returned(now, &host, boot_id, rebooted, downtime_ms);
                self.miss_what_the_host_forgot(now, &host, rebooted, &inventory);
            }
            Input::Verified { host, proof } => self.take_proof(now, &host, proof),
            Input::Stop {
                cause,
                reason,
                by,
                halt_epoch,
            } => self.request_stop_by(now, cause, reason, None, halt_epoch, &by),
        }
        self.advance(now);
        std::mem::take(&mut self.decision)
    }

    /// When the machine has to be asked again although nothing was heard.
    pub fn due(&self) -> Timestamp {
        self.due
    }

    /// Something is due then, unless it is already over.
    pub(crate) fn wake_at(&mut self, now: Timestamp, at: Timestamp) {
        if at > now {
            self.due = self.due.min(at);
        }
    }

    /// After a restart of the controller: nothing is resumed, everything is stopped and proven.
    fn restarted(&mut self, now: Timestamp, down_ms: u64) -> Decision {
        // Proofs are asked for anew: this controller has heard none.
        self.resumed_at = Some(now);
        (self.progress_at, self.thorough) = (now, true);
        self.record(now, EventBody::ControllerRestarted { down_ms });
        if self.state.totals.first_ordered.is_some() {
            self.begin_probing(now);
        }
        self.request_stop(
            now,
            StopCause::ControllerRestart,
            "the controller was restarted while the run was going".to_owned(),
            None,
        );
        self.advance(now);
        std::mem::take(&mut self.decision)
    }

    pub(crate) fn record(&mut self, now: Timestamp, body: EventBody) {
        self.record_from(now, body, None, None);
    }

    /// Makes it part of the state, and of what is to be stored before anything is done.
    pub(crate) fn record_from(&mut self, now: Timestamp, body: EventBody, source: Option<AgentSource>, by: Option<&str>) {
        let by = by.unwrap_or(if source.is_some() { "agent" } else { "controller" }).to_owned();
        let event = Event {
            run_id: self.state.run.clone(),
            seq: self.state.last_seq + 1,
            version: SCHEMA_VERSION,
            at: now,
            by,
            source,
            body,
        };
        self.state.apply(&event);
        let Event { at, by, source, body, .. } = event;
        self.decision.record.push(NewEvent { at, by, source, body });
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.decision.act.push(action);
    }

    pub(crate) fn request_stop(&mut self, now: Timestamp, cause: StopCause, reason: String, guard: Option<String>) {
        self.request_stop_by(now, cause, reason, guard, None, "controller");
    }

    fn request_stop_by(
        &mut self,
        now: Timestamp,
        cause: StopCause,
        reason: String,
        guard: Option<String>,
        halt_epoch: Option<u64>,
        by: &str,
    ) {
        if self.state.stop.is_some() || matches!(self.phase(), RunPhase::Verifying | RunPhase::Finished) {
            return;
        }
        self.record_from(
            now,
            EventBody::StopRequested {
                cause,
                reason,
                guard,
                halt_epoch,
            },
            None,
            Some(by),
        );
    }

    pub(crate) fn enter(&mut self, now: Timestamp, to: RunPhase) {
        let from = self.phase();
        self.record(now, EventBody::RunPhase { from, to });
    }
}
