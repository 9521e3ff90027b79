//! Simulated time around one conductor: what it orders happens here, and what happens here it is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use controller_conductor::{Action, Conductor, Decision, GatewayError, Input, PreflightReply, Settings};
use proto_model::event::{Event, EventBody, NewEvent, RunPhase, SCHEMA_VERSION, StopCause};
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{AgentFact, AgentReport, Applied, CleanProof, EndedBy, Injection, PreflightAnswer};
use proto_model::plan::Plan;
use proto_model::probe::{Prober, Sample, SampleResult, SampledBy};
use proto_model::problem::Refusal;
use proto_model::time::Timestamp;

use crate::hosts::{Held, Host, Manners, ends, last_report, next_facts, report};
use crate::laws::Ended;
use crate::plans::host;

pub const START: i64 = 1_700_000_000_000;
pub const LEASE: u64 = 6_000;
const BEAT: i64 = 100;

pub struct Sim {
    pub now: i64,
    pub events: Vec<Event>,
    pub acts: Vec<(u64, Action)>,
    /// What the probes see at a moment of the run, by the probe's name.
    pub seen: fn(&str, u64) -> SampleResult,
    pub settled: BTreeSet<InjectionId>,
    /// Settlements do not reach their hosts until the controller is restarted.
    pub loses_settlements: bool,
    /// Proofs that reach the controller in one beat.
    pub proofs_per_beat: usize,
    /// How far the probes' beats are from the run's, and how long their samples travel, in milliseconds.
    pub jitter: (i64, i64),
    /// Hosts say when what they report was.
    pub dated: bool,
    /// What has been decided on.
    pub steps: u64,
    /// The step whose turn finds no room over all runs.
    pub no_room_for: Option<&'static str>,
    conductor: Conductor,
    pub(crate) hosts: BTreeMap<HostName, Host>,
    inbox: VecDeque<Input>,
    /// Proofs on their way, and samples with the moment of their arrival.
    proofs: VecDeque<Input>,
    samples: VecDeque<(i64, Input)>,
    probing: bool,
}

impl Sim {
    pub fn new(plan: &Plan) -> Self {
        let run = RunId::generate();
        let injections = plan.injections();
        let body = EventBody::RunAccepted {
            digest: plan.digest(),
            plan: Box::new(plan.clone()),
            injections,
            idempotency_key: None,
            halt_epoch: 0,
        };
        let first = Event {
            run_id: run,
            seq: 1,
            version: SCHEMA_VERSION,
            at: Timestamp(START),
            by: "root@local".into(),
            source: None,
            body,
        };
        let names: Vec<HostName> = plan.hosts.iter().map(|h| h.name.clone()).collect();
        let conductor = Conductor::new(std::slice::from_ref(&first), &names, Settings::with_lease(LEASE)).unwrap();
        Self {
            now: START,
            events: vec![first],
            acts: vec![],
            seen: |_, _| SampleResult::Good,
            settled: BTreeSet::new(),
            loses_settlements: false,
            proofs_per_beat: usize::MAX,
            jitter: (0, 0),
            dated: false,
            steps: 0,
            no_room_for: None,
            conductor,
            hosts: names.into_iter().map(|name| (name, Host::default())).collect(),
            inbox: VecDeque::from([Input::Begin]),
            proofs: VecDeque::new(),
            samples: VecDeque::new(),
            probing: false,
        }
    }

    pub fn with(mut self, name: &str, change: impl FnOnce(&mut Manners)) -> Self {
        change(&mut self.hosts.get_mut(&host(name)).unwrap().manners);
        self
    }

    pub fn seeing(mut self, seen: fn(&str, u64) -> SampleResult) -> Self {
        self.seen = seen;
        self
    }

    pub fn elapsed(&self) -> u64 {
        u64::try_from(self.now - START).unwrap()
    }

    pub fn stop(&mut self, cause: StopCause) {
        self.inbox.push_back(Input::Stop {
            cause,
            reason: "because".into(),
            by: "ann".into(),
            halt_epoch: None,
        });
    }

    /// Another controller process: it has the events, and nothing else.
    pub fn restart_controller(&mut self) {
        let names: Vec<HostName> = self.hosts.keys().cloned().collect();
        self.inbox.clear();
        self.proofs.clear();
        self.samples.clear();
        (self.probing, self.loses_settlements) = (false, false);
        let resumed = Conductor::resume(&self.events, &[], Settings::with_lease(LEASE), Timestamp(self.now)).unwrap();
        self.conductor = resumed.0;
        self.follow(resumed.1);
        for name in names {
            if !self.is_away(&name) {
                self.come_back(&name);
            }
        }
    }

    /// Until the run is finished; it must be within the time.
    pub fn finish(mut self, within_ms: u64) -> Ended {
        while !self.conductor.is_finished() {
            assert!(self.elapsed() < within_ms, "not finished after {within_ms} ms: {:?}", self.phases());
            self.beat();
        }
        Ended::of(self)
    }

    pub fn until(&mut self, ms: u64) {
        while self.elapsed() < ms && !self.conductor.is_finished() {
            self.beat();
        }
    }

    pub fn phases(&self) -> Vec<RunPhase> {
        phases(&self.events)
    }

    pub fn beat(&mut self) {
        self.now += BEAT;
        let names: Vec<HostName> = self.hosts.keys().cloned().collect();
        names.iter().for_each(|name| self.live(name));
        if self.probing && (self.now - START - self.jitter.0) % 1_000 == 0 {
            self.probe();
        }
        while self.samples.front().is_some_and(|(at, _)| *at <= self.now) {
            let arrived = self.samples.pop_front();
            self.inbox.extend(arrived.map(|(_, sample)| sample));
        }
        let proofs = self.proofs_per_beat.min(self.proofs.len());
        self.inbox.extend(self.proofs.drain(..proofs));
        for input in std::mem::take(&mut self.inbox) {
            self.tell(input);
        }
        self.tell(Input::Tick);
    }

    fn tell(&mut self, input: Input) {
        if self.conductor.is_finished() {
            return;
        }
        self.steps += 1;
        let decision = self.conductor.step(Timestamp(self.now), input);
        self.follow(decision);
    }

    fn follow(&mut self, decision: Decision) {
        for event in decision.record {
            self.record(event);
        }
        for action in decision.act {
            self.acts.push((self.elapsed(), action.clone()));
            self.perform(action);
        }
    }

    fn record(&mut self, event: NewEvent) {
        let seq = self.events.len() as u64 + 1;
        let run_id = self.conductor.run().clone();
        self.events.push(Event {
            run_id,
            seq,
            version: SCHEMA_VERSION,
            at: event.at,
            by: event.by,
            source: event.source,
            body: event.body,
        });
    }

    fn is_away(&self, name: &HostName) -> bool {
        let ms = self.elapsed();
        self.hosts[name].manners.away.is_some_and(|(from, to)| from <= ms && ms < to)
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Preflight { host, wishes } => self.preflight(host, wishes.len()),
            Action::Order { injection } => self.order(injection),
            Action::Stop { host, injection, cause } => self.end(&host, &injection, cause),
            Action::Renew { host, injections } => self.renew(&host, &injections),
            Action::Verify { host, .. } => self.verify(host),
            Action::Settle { .. } if self.loses_settlements => {}
            Action::Settle { host, injections } => {
                self.hosts
                    .get_mut(&host)
                    .unwrap()
                    .held
                    .retain(|h| !injections.contains(&h.injection.id));
                self.settled.extend(injections);
            }
            Action::Room { step } => {
                let answer = if self.no_room_for == Some(step.as_str()) {
                    Err("limits.hosts allows fewer".to_owned())
                } else {
                    Ok(())
                };
                // An answer that comes twice must order nothing twice.
                self.inbox.extend([0, 1].map(|_| Input::Room {
                    step: step.clone(),
                    answer: answer.clone(),
                }));
            }
            Action::StartProbes => self.probing = true,
            Action::StopProbes => self.probing = false,
            Action::ProbeAgain { .. } | Action::Finished => {}
        }
    }

    fn preflight(&mut self, host: HostName, wishes: usize) {
        let manners = self.hosts[&host].manners.clone();
        if self.is_away(&host) {
            let reply = Err(GatewayError::Lost(host.clone()));
            return self.inbox.push_back(Input::Preflight { host, reply });
        }
        if !manners.answers_preflight {
            return;
        }
        let refusals = if manners.refuses_preflight {
            vec![Refusal::new("policy", "", format!("{host} says no"))]
        } else {
            vec![]
        };
        let answer = PreflightAnswer {
            accepted: refusals.is_empty(),
            refusals,
            warnings: vec![],
            undo: vec![],
            touches: vec![],
            engine: None,
        };
        let reply = PreflightReply {
            answers: vec![answer; wishes],
            boot_id: "b".into(),
            agent_version: "0".into(),
            kernel: "6".into(),
            catalogue_digest: "c".into(),
        };
        self.inbox.push_back(Input::Preflight { host, reply: Ok(reply) });
    }

    fn order(&mut self, injection: Injection) {
        let (name, now) = (injection.host.clone(), self.now);
        if self.is_away(&name) {
            let error = GatewayError::Lost(name);
            return self.inbox.push_back(Input::OrderFailed {
                injection: injection.id,
                error,
            });
        }
        let host = self.hosts.get_mut(&name).unwrap();
        if host.held.iter().any(|h| h.injection.id == injection.id) {
            panic!("an injection was ordered twice");
        }
        let mut held = Held {
            deadline: now + i64::try_from(injection.wish.duration_ms).unwrap(),
            injection,
            since: now,
            lease_until: now + i64::try_from(LEASE).unwrap(),
            windows: 0,
            facts: 0,
            over: false,
        };
        let mut facts = vec![];
        if let Some(code) = host.manners.refuses_order {
            held.over = true;
            facts.push(AgentFact::Refused(Refusal::new(code, "", "no")));
        } else if host.manners.ends == EndedBy::ApplyFailed {
            facts.extend(ends(&mut held, EndedBy::ApplyFailed));
        } else {
            facts.push(AgentFact::Applied(Applied {
                effect: serde_json::Value::Null,
                engine: None,
                apply_ms: 1,
                deadline_boot_ms: 1,
                noop: false,
            }));
        }
        let reports = facts.into_iter().map(|fact| report(&mut held, fact)).collect();
        host.held.push(held);
        self.say(&name, reports);
    }

    /// Sends, or keeps until there is a session.
    fn say(&mut self, name: &HostName, mut reports: Vec<AgentReport>) {
        if self.dated {
            reports.iter_mut().for_each(|report| report.boot_ms = self.now.cast_unsigned());
        }
        let away = self.is_away(name);
        let host = self.hosts.get_mut(name).unwrap();
        if away {
            host.kept.extend(reports);
        } else {
            self.report(name, reports);
        }
    }

    /// What a host reports arrives with the run that it has the injection from.
    pub fn report(&mut self, name: &HostName, reports: Vec<AgentReport>) {
        let run = self.conductor.run().to_string();
        let (name, now) = (name.clone(), self.now);
        self.inbox.extend(reports.into_iter().map(|report| Input::Report {
            host: name.clone(),
            // The hosts' boot clocks say what the run's clock says; a report without a time is of this moment.
            happened_at: Timestamp(if report.boot_ms > 1 { report.boot_ms.cast_signed() } else { now }),
            report: AgentReport {
                run: run.clone(),
                ..report
            },
        }));
    }

    fn end(&mut self, name: &HostName, id: &InjectionId, cause: EndedBy) {
        if self.is_away(name) || self.hosts[name].manners.deaf {
            return;
        }
        let host = self.hosts.get_mut(name).unwrap();
        let mut reports = vec![];
        for held in host.held.iter_mut().filter(|h| &h.injection.id == id && !h.over) {
            let facts = ends(held, cause);
            reports.extend(facts.into_iter().map(|fact| report(held, fact)));
        }
        self.say(name, reports);
    }

    fn renew(&mut self, name: &HostName, injections: &[InjectionId]) {
        if self.is_away(name) {
            return;
        }
        let until = self.now + i64::try_from(LEASE).unwrap();
        let held = self.hosts.get_mut(name).unwrap().held.iter_mut();
        held.filter(|h| injections.contains(&h.injection.id))
            .for_each(|h| h.lease_until = until);
    }

    fn verify(&mut self, name: HostName) {
        let proof = if self.is_away(&name) {
            Err(GatewayError::Lost(name.clone()))
        } else {
            let host = &self.hosts[&name];
            let acts = host.held.iter().filter(|h| !h.over).map(|h| h.injection.id.to_string());
            let left: Vec<String> = acts.chain(host.manners.dirty.then(|| "a group".to_owned())).collect();
            Ok(CleanProof::of(left, vec![], vec![], vec![], "b"))
        };
        self.proofs.push_back(Input::Verified { host: name, proof });
    }

    /// One beat of a host's life: losing and finding the controller, windows, ends.
    fn live(&mut self, name: &HostName) {
        let (away, now) = (self.is_away(name), self.now);
        let host = self.hosts.get_mut(name).unwrap();
        match (host.was_away, away) {
            (false, true) => self.inbox.push_back(Input::HostLost {
                host: name.clone(),
                last_seen: Timestamp(now),
            }),
            (true, false) => self.come_back(name),
            _ => {}
        }
        let host = self.hosts.get_mut(name).unwrap();
        host.was_away = away;
        let (manners, mut reports) = (host.manners.clone(), vec![]);
        for held in host.held.iter_mut().filter(|h| !h.over) {
            let facts = next_facts(held, &manners, now, away);
            reports.extend(facts.into_iter().map(|fact| report(held, fact)));
        }
        self.say(name, reports);
    }

    fn come_back(&mut self, name: &HostName) {
        let host = self.hosts.get_mut(name).unwrap();
        let inventory = host.held.iter().map(|h| h.injection.id.clone()).collect();
        let kept = std::mem::take(&mut host.kept);
        self.inbox.push_back(Input::HostReturned {
            host: name.clone(),
            boot_id: "b".into(),
            rebooted: false,
            downtime_ms: 1_000,
            inventory,
        });
        self.report(name, kept);
        // Whatever ended and was never settled is told again: repeats must be harmless.
        let ends: Vec<AgentReport> = self.hosts[name].held.iter().filter(|h| h.over).map(last_report).collect();
        self.report(name, ends);
    }

    fn probe(&mut self) {
        let ms = self.elapsed();
        for probe in self.conductor.plan().probes().cloned().collect::<Vec<_>>() {
            let probers: Vec<SampledBy> = match &probe.from {
                Prober::Controller => vec![SampledBy::Controller],
                Prober::Hosts(hosts) => hosts.iter().filter(|h| !self.is_away(h)).cloned().map(SampledBy::Host).collect(),
            };
            for prober in probers {
                let result = (self.seen)(&probe.name, ms);
                let error = (result != SampleResult::Good).then(|| "refused".to_owned());
                let (started_at, probe) = (Timestamp(self.now - 20), probe.name.clone());
                let sample = Sample {
                    probe,
                    prober: prober.clone(),
                    started_at,
                    took_ms: 20,
                    result,
                    value: None,
                    unit: None,
                    error,
                };
                let arrives = self.now + self.jitter.1;
                self.samples.push_back((arrives, Input::Sample { from: prober, sample }));
            }
        }
    }
}

pub fn phases(events: &[Event]) -> Vec<RunPhase> {
    let to = |e: &Event| match e.body {
        EventBody::RunPhase { to, .. } => Some(to),
        _ => None,
    };
    events.iter().filter_map(to).collect()
}
