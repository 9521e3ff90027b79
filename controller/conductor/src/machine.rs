//! The conductor: one input at a time, a decision in answer. No clock, no store, no network in here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller_report::{Judgement, judge};
use proto_model::event::{AgentSource, Event, EventBody, NewEvent, RunPhase, SCHEMA_VERSION, StopCause};
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{AgentReport, CleanProof, EndedBy, Injection, Wish};
use proto_model::plan::Plan;
use proto_model::probe::{Prober, Sample};
use proto_model::time::Timestamp;

use crate::host_gateway::{GatewayError, PreflightReply};
use crate::settings::Settings;
use crate::track::{HostTrack, ProbeTrack, StepTrack, Tracked};

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
    },
    Sample(Sample),
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

/// One run, as far as it has got.
pub struct Conductor {
    pub(crate) run: RunId,
    pub(crate) plan: Arc<Plan>,
    pub(crate) settings: Settings,
    pub(crate) phase: RunPhase,
    pub(crate) phase_since: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) injections: Vec<Tracked>,
    pub(crate) probes: Vec<ProbeTrack>,
    /// Hypothesis probes that came back after the last undo.
    pub(crate) recovered: BTreeSet<String>,
    pub(crate) hosts: BTreeMap<HostName, HostTrack>,
    pub(crate) unanswered_preflights: Vec<HostName>,
    pub(crate) preflight_refused: bool,
    /// Every step that has begun, by its path.
    pub(crate) steps: BTreeMap<String, StepTrack>,
    pub(crate) stop: Option<StopCause>,
    /// Everything recorded so far, numbered as the store numbers it.
    pub(crate) log: Vec<Event>,
    pub(crate) decision: Decision,
}

impl Conductor {
    /// A run from its first event on; `connected` are the hosts that have a session now.
    pub fn new(events: &[Event], connected: &[HostName], settings: Settings) -> Option<Self> {
        let first = events.first()?;
        let EventBody::RunAccepted { plan, injections, .. } = &first.body else {
            return None;
        };
        let mut names: Vec<HostName> = plan.hosts.iter().map(|h| h.name.clone()).collect();
        for probe in plan.probes() {
            if let Prober::Hosts(hosts) = &probe.from {
                names.extend(hosts.iter().cloned());
            }
        }
        let host = |name: HostName| {
            let track = HostTrack::new(name.clone(), connected.contains(&name), first.at);
            (name, track)
        };
        let mut conductor = Self {
            run: first.run_id.clone(),
            plan: Arc::new((**plan).clone()),
            settings,
            phase: RunPhase::Accepted,
            phase_since: first.at,
            started_at: None,
            injections: injections.iter().cloned().map(Tracked::new).collect(),
            probes: plan.probes().flat_map(ProbeTrack::of).collect(),
            recovered: BTreeSet::new(),
            hosts: names.into_iter().map(host).collect(),
            unanswered_preflights: Vec::new(),
            preflight_refused: false,
            steps: BTreeMap::new(),
            stop: None,
            log: vec![first.clone()],
            decision: Decision::default(),
        };
        for event in &events[1..] {
            conductor.absorb(event.at, &event.body);
            conductor.remember_fact(event);
            conductor.log.push(event.clone());
        }
        // Sessions of the past are none of the present.
        for host in conductor.hosts.values_mut() {
            host.reconnect(connected.contains(&host.name), first.at);
        }
        Some(conductor)
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
        &self.run
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn is_finished(&self) -> bool {
        self.phase == RunPhase::Finished
    }

    /// Injections that are ordered and not over: the controller knows them.
    pub fn out(&self) -> impl Iterator<Item = &Injection> {
        self.injections.iter().filter(|i| i.is_out()).map(|i| &i.injection)
    }

    /// Every injection of the run, whatever became of it.
    pub fn injections(&self) -> impl Iterator<Item = &Injection> {
        self.injections.iter().map(|i| &i.injection)
    }

    /// Hosts that are under an injection of this run, or are about to be: their step asks for room or has it.
    pub fn acting(&self) -> BTreeSet<&HostName> {
        let asked = |i: &&Tracked| i.is_planned() && self.steps.get(&i.injection.step).is_some_and(StepTrack::has_or_wants_room);
        let acting = self.injections.iter().filter(|i| i.is_out() || asked(i));
        acting.map(|i| &i.injection.host).collect()
    }

    /// Every host that the run injects or probes from.
    pub fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.keys()
    }

    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// One input, one decision. Everything recorded is already part of the machine's state when this returns.
    pub fn step(&mut self, now: Timestamp, input: Input) -> Decision {
        match input {
            Input::Begin => self.begin(now),
            Input::Tick => self.tick(now),
            Input::Preflight { host, reply } => self.take_preflight(now, &host, reply),
            Input::Report { host, report } => self.take_report(now, &host, report),
            Input::Sample(sample) => self.take_sample(now, sample),
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

    /// After a restart of the controller: nothing is resumed, everything is stopped and proven.
    fn restarted(&mut self, now: Timestamp, down_ms: u64) -> Decision {
        self.record(now, EventBody::ControllerRestarted { down_ms });
        self.request_stop(
            now,
            StopCause::ControllerRestart,
            "the controller was restarted while the run was going".to_owned(),
            None,
        );
        // Proofs are asked for anew: this controller has heard none.
        if self.phase == RunPhase::Verifying {
            self.phase_since = now;
        }
        self.advance(now);
        std::mem::take(&mut self.decision)
    }

    /// The judgement over what is recorded.
    pub(crate) fn judged(&self) -> Option<Judgement> {
        judge(&self.log)
    }

    pub(crate) fn record(&mut self, now: Timestamp, body: EventBody) {
        self.record_from(now, body, None, None);
    }

    pub(crate) fn record_from(&mut self, now: Timestamp, body: EventBody, source: Option<AgentSource>, by: Option<&str>) {
        self.absorb(now, &body);
        let by = by.unwrap_or(if source.is_some() { "agent" } else { "controller" }).to_owned();
        let seq = self.log.last().map_or(1, |e| e.seq + 1);
        let event = NewEvent { at: now, by, source, body };
        self.log.push(Event {
            run_id: self.run.clone(),
            seq,
            version: SCHEMA_VERSION,
            at: event.at,
            by: event.by.clone(),
            source: event.source.clone(),
            body: event.body.clone(),
        });
        self.decision.record.push(event);
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
        if self.stop.is_some() || matches!(self.phase, RunPhase::Verifying | RunPhase::Finished) {
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
        let from = self.phase;
        self.record(now, EventBody::RunPhase { from, to });
    }

    pub(crate) fn tracked(&mut self, id: &InjectionId) -> Option<&mut Tracked> {
        self.injections.iter_mut().find(|i| &i.injection.id == id)
    }
}
