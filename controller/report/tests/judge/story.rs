//! A run told step by step, so that a test says only what is special about its own.

use controller_report::{Judgement, RunState, judge};
use proto_model::catalogue::FaultKind;
use proto_model::event::{Event, EventBody, RunPhase, SCHEMA_VERSION, StepOutcome, StopCause};
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{
    Applied, CleanProof, EffectState, EndedBy, Ending, Injection, Observation, Observed, Reversal, Spent, UndoAnswer, Undone,
};
use proto_model::plan::{FaultStep, Hypothesis, Limits, OnFailure, Origin, Plan, PlannedHost, PlannedInjection, PlannedStep, StepBody};
use proto_model::probe::{Phase, ProbeCheck, ProbeRole, ProbeSpec, Prober, Sample, SampleResult, SampledBy, Tolerance};
use proto_model::problem::Refusal;
use proto_model::time::Timestamp;

pub const PROBE: &str = "answers";

pub struct Story {
    pub events: Vec<Event>,
    now: i64,
    run: RunId,
    injections: Vec<Injection>,
}

pub fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

pub fn probe(tolerate: Tolerance) -> ProbeSpec {
    ProbeSpec {
        name: PROBE.to_owned(),
        role: ProbeRole::Hypothesis,
        check: ProbeCheck {
            kind: "tcp".into(),
            params: [("address".to_owned(), "web:80".into())].into_iter().collect(),
        },
        from: Prober::Controller,
        every_ms: 1_000,
        timeout_ms: 1_000,
        tolerate,
        breaks: 3,
    }
}

pub fn plan(hosts: &[&str], tolerate: Option<Tolerance>) -> Plan {
    let planned = |name: &&str| PlannedHost {
        name: host(name),
        boot_id: "b".into(),
        catalogue_digest: "c".into(),
        labels: Default::default(),
        source_address: None,
    };
    let step = FaultStep {
        fault: FaultKind::parse("cpu.burn").unwrap(),
        params: serde_json::json!({"percent": 60}),
        duration_ms: 10_000,
        reversal: Reversal::Full,
        injections: hosts.iter().map(|name| PlannedInjection { host: host(name), seed: 1 }).collect(),
        matched: u32::try_from(hosts.len()).unwrap(),
        among: vec![],
        on_failure: OnFailure::Stop,
    };
    Plan {
        name: "trial".into(),
        origin: if tolerate.is_some() { Origin::Experiment } else { Origin::Attack },
        service: None,
        environment: "staging".into(),
        hypothesis: tolerate.map(|tolerate| Hypothesis {
            says: "web answers".into(),
            before_ms: 5_000,
            after_ms: 10_000,
            probes: vec![probe(tolerate)],
        }),
        guards: vec![],
        limits: Limits::default(),
        steps: vec![PlannedStep {
            path: "steps[0]".into(),
            body: StepBody::Fault(step),
        }],
        hosts: hosts.iter().map(planned).collect(),
        seed: 7,
        notes: vec![],
        source: String::new(),
        variables: Default::default(),
        production: false,
    }
}

impl Story {
    pub fn of(plan: Plan) -> Self {
        let injections = plan.injections();
        let mut story = Self {
            events: vec![],
            now: 1_700_000_000_000,
            run: RunId::generate(),
            injections: injections.clone(),
        };
        let body = EventBody::RunAccepted {
            digest: plan.digest(),
            plan: Box::new(plan),
            injections,
            idempotency_key: None,
            halt_epoch: 0,
        };
        story.push(body);
        story
    }

    /// An experiment on one host whose probe tolerates nothing.
    pub fn experiment() -> Self {
        Self::of(plan(&["web"], Some(Tolerance::Count(0))))
    }

    /// An attack without probes.
    pub fn attack() -> Self {
        Self::of(plan(&["web"], None))
    }

    pub fn judgement(&self) -> Judgement {
        judge(&RunState::of(&self.events).unwrap())
    }

    pub fn push(&mut self, body: EventBody) -> &mut Self {
        self.now += 100;
        let seq = self.events.len() as u64 + 1;
        let at = Timestamp(self.now);
        self.events.push(Event {
            run_id: self.run.clone(),
            seq,
            version: SCHEMA_VERSION,
            at,
            by: "controller".into(),
            source: None,
            body,
        });
        self
    }

    pub fn id(&self, at: usize) -> InjectionId {
        self.injections[at].id.clone()
    }

    pub fn phase(&mut self, to: RunPhase) -> &mut Self {
        let from = RunPhase::Accepted;
        self.push(EventBody::RunPhase { from, to })
    }

    pub fn preflight(&mut self, refusal: Option<Refusal>) -> &mut Self {
        self.phase(RunPhase::Preflight);
        let body = EventBody::HostPreflight {
            host: host("web"),
            accepted: refusal.is_none(),
            refusals: refusal.into_iter().collect(),
            warnings: vec![],
            boot_id: "b".into(),
            agent_version: "0".into(),
            kernel: "6".into(),
            catalogue_digest: "c".into(),
        };
        self.push(body)
    }

    /// Samples as letters: g(ood), b(ad), m(issing).
    pub fn samples(&mut self, phase: Phase, letters: &str) -> &mut Self {
        for letter in letters.chars() {
            self.now += 900;
            let result = match letter {
                'g' => SampleResult::Good,
                'b' => SampleResult::Bad,
                _ => SampleResult::Missing,
            };
            let sample = Sample {
                probe: PROBE.into(),
                prober: SampledBy::Controller,
                started_at: Timestamp(self.now),
                took_ms: 20,
                result,
                value: None,
                unit: None,
                error: None,
            };
            self.push(EventBody::ProbeSampled {
                role: ProbeRole::Hypothesis,
                phase,
                sample,
            });
        }
        self
    }

    pub fn before(&mut self, letters: &str) -> &mut Self {
        self.preflight(None).phase(RunPhase::Before).samples(Phase::Before, letters)
    }

    pub fn order(&mut self) -> &mut Self {
        self.phase(RunPhase::During);
        self.push(EventBody::StepStarted {
            path: "steps[0]".into(),
            planned_at: Timestamp(self.now),
        });
        for i in self.injections.clone() {
            self.push(EventBody::InjectionOrdered {
                id: i.id,
                step: i.step,
                host: i.host,
                duration_ms: 10_000,
                lease_ms: 15_000,
            });
        }
        self
    }

    pub fn applied(&mut self, noop: bool) -> &mut Self {
        for i in self.injections.clone() {
            let applied = Applied {
                effect: serde_json::Value::Null,
                engine: None,
                apply_ms: 3,
                deadline_boot_ms: 1,
                noop,
            };
            self.push(EventBody::InjectionApplied { id: i.id, applied });
        }
        self
    }

    /// One window for every injection per letter: c(onfirmed), m(ismatch), u(nexercised), ?.
    pub fn windows(&mut self, letters: &str) -> &mut Self {
        for (at, letter) in letters.chars().enumerate() {
            let state = match letter {
                'c' => EffectState::Confirmed,
                'm' => EffectState::Mismatch,
                'u' => EffectState::Unexercised,
                _ => EffectState::Unknown,
            };
            for i in self.injections.clone() {
                let observation = Observation {
                    asked: Some(60.0),
                    measured: Some(59.0),
                    unit: "percent".into(),
                    state,
                    note: None,
                };
                let observed = Observed {
                    window: at as u64 + 1,
                    window_ms: 5_000,
                    observation,
                };
                self.push(EventBody::InjectionObserved { id: i.id, observed });
            }
        }
        self
    }

    /// Ordered, acting, and seen to act.
    pub fn acting(&mut self) -> &mut Self {
        self.order().applied(false).windows("cc")
    }

    pub fn undone(&mut self, ended_by: EndedBy) -> &mut Self {
        for i in self.injections.clone() {
            let ending = Ending { ended_by, reason: None };
            self.push(EventBody::InjectionEnding { id: i.id.clone(), ending });
            let undone = Undone {
                ended_by,
                undone_by: "agent".into(),
                undo_ms: 40,
                answer: UndoAnswer::UndoneNow,
                drift: vec![],
            };
            self.push(EventBody::InjectionUndone { id: i.id, undone });
        }
        self.push(EventBody::StepEnded {
            path: "steps[0]".into(),
            outcome: StepOutcome::Done,
        })
    }

    /// One of several injections from its order to its undo, seen to act, with these samples meanwhile.
    pub fn acts_alone(&mut self, at: usize, letters: &str) -> &mut Self {
        let all = self.injections.clone();
        self.injections = vec![all[at].clone()];
        self.acting().samples(Phase::During, letters).undone(EndedBy::DurationElapsed);
        self.injections = all;
        self
    }

    pub fn spent(&mut self) -> &mut Self {
        for i in self.injections.clone() {
            self.push(EventBody::InjectionSpent {
                id: i.id,
                spent: Spent {
                    consequences: vec!["pid 7 is gone".into()],
                },
            });
        }
        self.push(EventBody::StepEnded {
            path: "steps[0]".into(),
            outcome: StepOutcome::Done,
        })
    }

    pub fn refused(&mut self, code: &str) -> &mut Self {
        let id = self.id(0);
        self.push(EventBody::InjectionRefused {
            id,
            refusal: Refusal::new(code, "params.percent", "no"),
        })
    }

    pub fn after(&mut self, letters: &str) -> &mut Self {
        self.phase(RunPhase::After).samples(Phase::After, letters)
    }

    pub fn recovered(&mut self) -> &mut Self {
        self.push(EventBody::HypothesisRecovered {
            probe: PROBE.into(),
            recovery_ms: 1_200,
        })
    }

    pub fn stop(&mut self, cause: StopCause) -> &mut Self {
        let reason = format!("because {cause:?}");
        self.push(EventBody::StopRequested {
            cause,
            reason,
            guard: None,
            halt_epoch: None,
        });
        self.phase(RunPhase::Stopping)
    }

    pub fn proven(&mut self, proof: CleanProof) -> &mut Self {
        self.phase(RunPhase::Verifying);
        for i in self.injections.clone() {
            self.push(EventBody::HostVerified {
                host: i.host,
                proof: proof.clone(),
            });
        }
        self
    }

    pub fn clean(&mut self) -> &mut Self {
        self.proven(CleanProof::of(vec![], vec![], vec![], vec![], "b"))
    }
}
