//! Turns an admitted order into the warden's commands, and the warden's answers into messages; it never decides whether a fault may run.

use agent_link::check_params;
use agent_warden::{AgentStatus, Command, HaltAnswer, Reply, StartOrder, WardenError, WardenHandle};
use proto_model::catalogue::FaultKind;
use proto_model::host::HostFacts;
use proto_model::id::{HostName, InjectionId, PlanDigest, RunId};
use proto_model::injection::{PreflightAnswer, Wish};
use proto_wire::convert::{ended_by, probe_from_wire};
use proto_wire::v1;
use proto_wire::v1::agent_message::Body as Out;
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::order_refused::Why;
use tokio::sync::mpsc;

use crate::order_validator::OrderRejected;
use crate::probes::Probes;
use crate::warden_client::{HALT_ANSWER_WITHIN, ask, forward, forward_within, request_retrying};

/// The hands of one session.
pub(crate) struct Hands<'a> {
    pub warden: &'a WardenHandle,
    pub out: &'a mpsc::Sender<Out>,
    pub probes: &'a mut Probes,
    pub boot_id: &'a str,
    pub host: &'a HostName,
    /// Read anew for each preflight.
    pub facts: &'a (dyn Fn() -> HostFacts + Send + Sync),
}

impl Hands<'_> {
    /// Carries an order out, or hands it on; `halt_epoch` is the order's.
    pub fn obey(&mut self, body: Body, halt_epoch: u64) -> Result<(), OrderRejected> {
        match body {
            // What concerns the session itself is its own.
            Body::Welcome(_) | Body::Trust(_) => Ok(()),
            Body::Start(start) => self.start(start),
            Body::Stop(stop) => self.stop(&stop),
            Body::Lease(lease) => {
                let ids = ids(&lease.injections)?;
                self.tell(Command::Renew(ids, lease.lease_ms))
            }
            Body::Preflight(question) => self.preflight(question),
            Body::Verify(question) => self.verify(&question),
            Body::Doctor(question) => self.doctor(question.request),
            Body::ProbeStart(start) => self.probe(start),
            Body::ProbeStop(probe) => {
                self.probes.stop(&run(&probe.run)?);
                Ok(())
            }
            Body::Halt(halt) => self.halt(halt_epoch, halt.reason),
            Body::Release(_) => self.release(halt_epoch),
            Body::Settled(settled) => self.tell(Command::Settle(ids(&settled.injections)?)),
            Body::Accept(accept) => self.tell(Command::Accept {
                by: accept.by,
                reason: accept.reason,
            }),
        }
    }

    fn start(&self, start: v1::Start) -> Result<(), OrderRejected> {
        let params = serde_json::from_str(&start.params_json).map_err(malformed)?;
        check_params(&params).map_err(malformed)?;
        let order = StartOrder {
            injection: InjectionId::parse(&start.injection).map_err(malformed)?,
            run: run(&start.run)?,
            lease_ms: start.lease_ms,
            plan_digest: PlanDigest(start.plan_digest),
            wish: Wish {
                fault: FaultKind::parse(&start.fault).map_err(malformed)?,
                params,
                duration_ms: start.duration_ms,
                seed: start.seed,
                beside: Vec::new(),
                unattended: start.unattended,
            },
        };
        self.tell(Command::Start(order, Box::new(drop)))
    }

    fn stop(&self, stop: &v1::Stop) -> Result<(), OrderRejected> {
        let injection = InjectionId::parse(&stop.injection).map_err(malformed)?;
        let cause = ended_by(stop.cause).map_err(malformed)?;
        let command = move |reply| Command::Stop(injection.clone(), cause, reply);
        request_retrying(self.warden, command, drop).map_err(|e| not_taken(&e))
    }

    fn preflight(&self, question: v1::Preflight) -> Result<(), OrderRejected> {
        let questions = question.questions.into_iter().map(Wish::try_from);
        let wishes: Vec<Wish> = questions.collect::<Result<_, _>>().map_err(malformed)?;
        wishes.iter().try_for_each(|wish| check_params(&wish.params)).map_err(malformed)?;
        let facts = (!wishes.is_empty()).then(|| v1::HostFacts::from(&(self.facts)()));
        let (request, boot_id) = (question.request, self.boot_id.to_owned());
        let into = move |answers: Vec<PreflightAnswer>| {
            Out::Preflight(v1::PreflightAnswer {
                request,
                results: answers.into_iter().map(Into::into).collect(),
                boot_id,
                facts,
            })
        };
        // No question: only whether this session lives, which a busy warden must not hide.
        if wishes.is_empty() {
            let full = |_| OrderRejected::new(Why::Busy, "too many answers wait to be sent");
            return self.out.try_send(into(Vec::new())).map_err(full);
        }
        let told = ask(self.warden, |reply| Command::Preflight(wishes, reply)).map_err(|e| not_taken(&e))?;
        forward(told, self.out, into);
        Ok(())
    }

    fn verify(&self, question: &v1::Verify) -> Result<(), OrderRejected> {
        let (ids, request) = (ids(&question.injections)?, question.request);
        let told = ask(self.warden, |reply| Command::Verify(ids, reply)).map_err(|e| not_taken(&e))?;
        forward(told, self.out, move |proof| {
            let proof = Some(v1::CleanProof::from(proof));
            Out::Verified(v1::VerifyAnswer { request, proof })
        });
        Ok(())
    }

    fn doctor(&self, request: u64) -> Result<(), OrderRejected> {
        let told = ask(self.warden, Command::Doctor).map_err(|e| not_taken(&e))?;
        forward(told, self.out, move |doctor| {
            let doctor_json = serde_json::to_string(&doctor).unwrap_or_default();
            Out::Doctor(v1::DoctorAnswer { request, doctor_json })
        });
        Ok(())
    }

    fn probe(&mut self, start: v1::ProbeStart) -> Result<(), OrderRejected> {
        let run = run(&start.run)?;
        let probe = start.probe.ok_or_else(|| malformed("the order names no probe"))?;
        let spec = probe_from_wire(self.host, probe).map_err(malformed)?;
        let started = self.probes.start(run, spec);
        started.map_err(|why| OrderRejected::new(Why::Busy, why))
    }

    fn halt(&self, epoch: u64, reason: String) -> Result<(), OrderRejected> {
        let command = move |reply| Command::Halt {
            epoch,
            reason: reason.clone(),
            reply,
        };
        let out = self.out.clone();
        let tell = move |told| {
            forward_within(HALT_ANSWER_WITHIN, told, &out, move |answer: HaltAnswer| {
                Out::Halt(v1::HaltAnswer {
                    epoch,
                    halted: true,
                    undone: answer.undone,
                    failed: answer.failed,
                })
            });
        };
        request_retrying(self.warden, command, tell).map_err(|e| not_taken(&e))
    }

    fn release(&self, epoch: u64) -> Result<(), OrderRejected> {
        // The warden does not answer a release; its status after it does.
        let command = move |taken: Reply<()>| {
            taken(());
            Command::Release { epoch }
        };
        let (warden, out) = (self.warden.clone(), self.out.clone());
        let tell = move |_| {
            let look = request_retrying(&warden, Command::Status, move |told| {
                forward(told, &out, move |status: AgentStatus| {
                    Out::Halt(v1::HaltAnswer {
                        epoch,
                        halted: status.halted.is_some(),
                        undone: 0,
                        failed: 0,
                    })
                });
            });
            if let Err(error) = look {
                tracing::warn!(%error, "a release stays without its answer");
            }
        };
        request_retrying(self.warden, command, tell).map_err(|e| not_taken(&e))
    }

    fn tell(&self, command: Command) -> Result<(), OrderRejected> {
        self.warden.send(command).map_err(|e| not_taken(&e))
    }
}

fn ids(texts: &[String]) -> Result<Vec<InjectionId>, OrderRejected> {
    texts.iter().map(|text| InjectionId::parse(text).map_err(malformed)).collect()
}

fn run(text: &str) -> Result<RunId, OrderRejected> {
    RunId::parse(text).map_err(malformed)
}

fn malformed(why: impl std::fmt::Display) -> OrderRejected {
    OrderRejected::new(Why::Malformed, why.to_string())
}

fn not_taken(error: &WardenError) -> OrderRejected {
    OrderRejected::new(Why::Busy, error.to_string())
}
