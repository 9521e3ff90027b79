//! Simulated hosts and time around one conductor: what it orders happens here, and what happens here it is told. Laws that hold in every run are checked on the way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use controller_conductor::{Action, Conductor, Decision, Input, Settings};
use controller_dispatcher::{DispatchError, PreflightReply};
use controller_report::{History, fold};
use proto_model::document::RunDocument;
use proto_model::event::{Event, EventBody, NewEvent, RunPhase, SCHEMA_VERSION, StopCause};
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{
    AgentFact, AgentReport, Applied, CleanProof, EffectState, EndedBy, Ending, Injection, Observation, Observed, PreflightAnswer,
    UndoAnswer, Undone,
};
use proto_model::plan::Plan;
use proto_model::probe::{Prober, Sample, SampleResult};
use proto_model::problem::Refusal;
use proto_model::time::Timestamp;

use crate::plans::host;

pub const START: i64 = 1_700_000_000_000;
pub const LEASE: u64 = 6_000;
const BEAT: i64 = 100;

/// How a host behaves.
#[derive(Debug, Clone)]
pub struct Manners {
    pub refuses_preflight: bool,
    pub answers_preflight: bool,
    pub refuses_order: Option<&'static str>,
    pub ends: EndedBy,
    /// From when to when it has no session, in milliseconds of the run.
    pub away: Option<(u64, u64)>,
    /// An agent that was killed: the kernel ends its injections with the lease, and the new agent says so.
    pub restarted: bool,
    pub dirty: bool,
    /// Stops are not carried out.
    pub deaf: bool,
    pub effect: EffectState,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            refuses_preflight: false,
            answers_preflight: true,
            refuses_order: None,
            ends: EndedBy::DurationElapsed,
            away: None,
            restarted: false,
            dirty: false,
            deaf: false,
            effect: EffectState::Confirmed,
        }
    }
}

#[derive(Debug)]
struct Held {
    injection: Injection,
    since: i64,
    deadline: i64,
    lease_until: i64,
    windows: u64,
    facts: u64,
    over: bool,
}

#[derive(Debug, Default)]
struct Host {
    manners: Manners,
    held: Vec<Held>,
    /// Reports that could not be sent yet.
    kept: Vec<AgentReport>,
    was_away: bool,
}

pub struct Sim {
    pub now: i64,
    pub events: Vec<Event>,
    pub acts: Vec<(u64, Action)>,
    /// What the probes see at a moment of the run, by the probe's name.
    pub seen: fn(&str, u64) -> SampleResult,
    pub settled: BTreeSet<InjectionId>,
    /// Settlements do not reach their hosts until the controller is restarted.
    pub loses_settlements: bool,
    conductor: Conductor,
    hosts: BTreeMap<HostName, Host>,
    inbox: VecDeque<Input>,
    probing: bool,
}

impl Sim {
    pub fn new(plan: &Plan) -> Self {
        let run = RunId::generate();
        let injections: Vec<Injection> = plan
            .fault_steps()
            .flat_map(|(path, step)| {
                step.injections.iter().map(move |p| Injection {
                    id: InjectionId::generate(),
                    step: path.to_owned(),
                    host: p.host.clone(),
                    fault: step.fault.clone(),
                    params: step.params.clone(),
                    duration_ms: step.duration_ms,
                    seed: p.seed,
                })
            })
            .collect();
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
            conductor,
            hosts: names.into_iter().map(|name| (name, Host::default())).collect(),
            inbox: VecDeque::from([Input::Begin]),
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
        if self.probing && (self.now - START) % 1_000 == 0 {
            self.probe();
        }
        for input in std::mem::take(&mut self.inbox) {
            self.tell(input);
        }
        self.tell(Input::Tick);
    }

    fn tell(&mut self, input: Input) {
        if self.conductor.is_finished() {
            return;
        }
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
            Action::StartProbes => self.probing = true,
            Action::StopProbes => self.probing = false,
            Action::ProbeAgain { .. } | Action::Finished => {}
        }
    }

    fn preflight(&mut self, host: HostName, wishes: usize) {
        let manners = self.hosts[&host].manners.clone();
        if self.is_away(&host) {
            let reply = Err(DispatchError::Lost(host.clone()));
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
            let error = DispatchError::Lost(name);
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
            deadline: now + i64::try_from(injection.duration_ms).unwrap(),
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
    fn say(&mut self, name: &HostName, reports: Vec<AgentReport>) {
        let away = self.is_away(name);
        let host = self.hosts.get_mut(name).unwrap();
        if away {
            host.kept.extend(reports);
        } else {
            self.inbox.extend(reports.into_iter().map(|report| Input::Report {
                host: name.clone(),
                report,
            }));
        }
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
            Err(DispatchError::Lost(name.clone()))
        } else {
            let host = &self.hosts[&name];
            let acts = host.held.iter().filter(|h| !h.over).map(|h| h.injection.id.to_string());
            let left: Vec<String> = acts.chain(host.manners.dirty.then(|| "a group".to_owned())).collect();
            Ok(CleanProof::of(left, vec![], vec![], vec![], "b"))
        };
        self.inbox.push_back(Input::Verified { host: name, proof });
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
        self.inbox.extend(kept.into_iter().map(|report| Input::Report {
            host: name.clone(),
            report,
        }));
        // Whatever ended and was never settled is told again: repeats must be harmless.
        let ends: Vec<AgentReport> = self.hosts[name].held.iter().filter(|h| h.over).map(last_report).collect();
        self.inbox.extend(ends.into_iter().map(|report| Input::Report {
            host: name.clone(),
            report,
        }));
    }

    fn probe(&mut self) {
        let ms = self.elapsed();
        for probe in self.conductor.plan().probes().cloned().collect::<Vec<_>>() {
            let probers: Vec<String> = match &probe.from {
                Prober::Controller => vec!["controller".into()],
                Prober::Hosts(hosts) => hosts.iter().filter(|h| !self.is_away(h)).map(ToString::to_string).collect(),
            };
            for prober in probers {
                let result = (self.seen)(&probe.name, ms);
                let error = (result != SampleResult::Good).then(|| "refused".to_owned());
                let (started_at, probe) = (Timestamp(self.now - 20), probe.name.clone());
                self.inbox.push_back(Input::Sample(Sample {
                    probe,
                    prober,
                    started_at,
                    took_ms: 20,
                    result,
                    value: None,
                    unit: None,
                    error,
                }));
            }
        }
    }
}

fn next_facts(held: &mut Held, manners: &Manners, now: i64, away: bool) -> Vec<AgentFact> {
    let mut facts = vec![];
    let windows = u64::try_from((now - held.since) / 5_000).unwrap();
    if windows > held.windows {
        held.windows = windows;
        let observation = Observation {
            asked: Some(60.0),
            measured: Some(60.0),
            unit: "percent".into(),
            state: manners.effect,
            note: None,
        };
        facts.push(AgentFact::Observed(Observed {
            window: windows,
            window_ms: 5_000,
            observation,
        }));
    }
    let early = manners.ends == EndedBy::EndedEarly && now - held.since > 3_000;
    if early {
        facts.extend(ends(held, EndedBy::EndedEarly));
    } else if now >= held.lease_until {
        let by = if away && manners.restarted {
            EndedBy::KernelExpiry
        } else {
            EndedBy::LeaseLost
        };
        facts.extend(ends(held, by));
    } else if now >= held.deadline {
        facts.extend(ends(held, EndedBy::DurationElapsed));
    }
    facts
}

fn ends(held: &mut Held, ended_by: EndedBy) -> Vec<AgentFact> {
    held.over = true;
    let undone = Undone {
        ended_by,
        undone_by: "agent".into(),
        undo_ms: 5,
        answer: UndoAnswer::UndoneNow,
        drift: vec![],
    };
    vec![AgentFact::Ending(Ending { ended_by, reason: None }), AgentFact::Undone(undone)]
}

fn report(held: &mut Held, fact: AgentFact) -> AgentReport {
    held.facts += 1;
    AgentReport {
        injection: held.injection.id.clone(),
        run: String::new(),
        agent_seq: held.facts,
        boot_id: "b".into(),
        boot_ms: 1,
        fact,
    }
}

/// The end again, under the number that it had.
fn last_report(held: &Held) -> AgentReport {
    let undone = Undone {
        ended_by: EndedBy::LeaseLost,
        undone_by: "agent".into(),
        undo_ms: 5,
        answer: UndoAnswer::AlreadyUndone,
        drift: vec![],
    };
    let fact = AgentFact::Undone(undone);
    AgentReport {
        injection: held.injection.id.clone(),
        run: String::new(),
        agent_seq: held.facts,
        boot_id: "b".into(),
        boot_ms: 1,
        fact,
    }
}

fn phases(events: &[Event]) -> Vec<RunPhase> {
    let to = |e: &Event| match e.body {
        EventBody::RunPhase { to, .. } => Some(to),
        _ => None,
    };
    events.iter().filter_map(to).collect()
}

/// A finished run, with the laws checked.
pub struct Ended {
    pub run: RunDocument,
    pub sim: Sim,
}

impl Ended {
    fn of(sim: Sim) -> Self {
        let ended = Self {
            run: fold(&sim.events).unwrap(),
            sim,
        };
        ended.check_phases();
        ended.check_orders();
        ended.check_end();
        ended
    }

    pub fn codes(&self) -> Vec<&str> {
        self.run.reasons.iter().map(|r| r.code.as_str()).collect()
    }

    pub fn ordered(&self) -> usize {
        self.sim.acts.iter().filter(|(_, a)| matches!(a, Action::Order { .. })).count()
    }

    /// Nothing leaves stopping except to verifying, nothing leaves finished, and each phase follows its own.
    fn check_phases(&self) {
        use RunPhase::{Accepted, After, Before, During, Finished, Preflight, Stopping, Verifying};
        for event in &self.sim.events {
            let EventBody::RunPhase { from, to } = event.body else { continue };
            let legal = matches!(
                (from, to),
                (Accepted, Preflight)
                    | (Preflight, Before | During)
                    | (Before, During)
                    | (During, After | Verifying)
                    | (After, Verifying)
                    | (Accepted | Preflight | Before | During | After, Stopping)
                    | (Stopping, Verifying)
                    | (Verifying, Finished)
            );
            assert!(legal, "{from:?} -> {to:?}");
        }
    }

    /// Each order is recorded, is the only one for its injection, and comes neither before every host agreed nor after a stop.
    fn check_orders(&self) {
        let mut ordered = BTreeSet::new();
        let (mut stopped, mut agreed) = (false, 0);
        let hosts = History::of(&self.sim.events).unwrap().plan.hosts.len();
        for event in &self.sim.events {
            match &event.body {
                EventBody::HostPreflight { accepted: true, .. } => agreed += 1,
                EventBody::StopRequested { .. } => stopped = true,
                EventBody::InjectionOrdered { id, .. } => {
                    assert!(!stopped && agreed == hosts && ordered.insert(id.clone()));
                }
                _ => {}
            }
        }
        for (_, action) in &self.sim.acts {
            if let Action::Order { injection } = action {
                assert!(ordered.contains(&injection.id), "acted on and not recorded");
            }
        }
    }

    /// Judged once and last; whatever is over is settled; cleanup is proven only when nothing acts.
    fn check_end(&self) {
        let judged = self
            .sim
            .events
            .iter()
            .filter(|e| matches!(e.body, EventBody::RunJudged { .. }))
            .count();
        assert_eq!(judged, 1);
        assert!(matches!(
            self.sim.events.last().unwrap().body,
            EventBody::RunPhase {
                to: RunPhase::Finished,
                ..
            }
        ));
        let acts = self.sim.hosts.values().flat_map(|h| &h.held).any(|h| !h.over);
        assert!(
            !acts || self.run.exit_code == Some(8),
            "something acts and the run says {:?}",
            self.run.exit_code
        );
        for event in &self.sim.events {
            if let (EventBody::InjectionUndone { id, .. }, Some(_)) = (&event.body, &event.source) {
                assert!(self.sim.settled.contains(id), "an end on record was not settled");
            }
        }
    }
}
