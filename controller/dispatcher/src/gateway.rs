//! Orders to hosts, each with its deadline: the dispatcher as the rest of the controller sees it.

use std::collections::HashSet;
use std::future::ready;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use controller_conductor::{BoxFuture, GatewayError, HaltOutcome, HostGateway, Latch, PreflightReply};
use controller_store::HostRecord;
use proto_model::catalogue::Catalogue;
use proto_model::doctor::HostDoctor;
use proto_model::halt::HaltState;
use proto_model::host::{Host, Membership};
use proto_model::id::{HostName, InjectionId, PlanDigest, RunId};
use proto_model::injection::{CleanProof, EndedBy, Injection, Wish};
use proto_model::probe::ProbeSpec;
use proto_wire::convert;
use proto_wire::v1;
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::{
    Accept, Doctor, Halt, Lease, Preflight, PreflightQuestion, ProbeStart, ProbeStop, Release, Settled, Start, Stop, Verify,
};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::dispatcher::Dispatcher;
use crate::fleet::Entry;
use crate::latch::HaltLatch;
use crate::link::{Answer, Link};
use crate::settings::ASKED_WITHIN;

impl Dispatcher {
    fn link(&self, host: &HostName) -> Result<Link, GatewayError> {
        self.fleet().link(host).ok_or_else(|| GatewayError::Lost(host.clone()))
    }

    fn order(&self, host: &HostName, body: Body) -> Result<(), GatewayError> {
        if self.link(host)?.send(body) {
            Ok(())
        } else {
            Err(GatewayError::Lost(host.clone()))
        }
    }

    /// Nothing starts under a halt, nor on a host whose identity two machines use.
    fn may_start(&self, host: &HostName) -> Result<(), GatewayError> {
        let halt = self.halt_state();
        if halt.engaged {
            return Err(GatewayError::Halted(halt.reason));
        }
        let refused = |code: &str, message: String| GatewayError::OrderRefused {
            host: host.clone(),
            code: code.to_owned(),
            message,
        };
        let (own, fleet) = (self.0.epochs.store.load(Ordering::SeqCst), self.fleet());
        let Some(entry) = fleet.get(host) else { return Ok(()) };
        if let Some(note) = &entry.cloned {
            return Err(refused("clone", note.clone()));
        }
        match entry.live.as_ref().map(|live| live.store_epoch) {
            Some(seen) if seen > own => Err(refused("stale_store_epoch", newer_store(host, seen, own))),
            _ => Ok(()),
        }
    }
}

/// What it means that a host knows a later store than ours.
pub(crate) fn newer_store(host: &HostName, seen: u64, own: u64) -> String {
    format!(
        "{host} has obeyed a store that was opened later (epoch {seen}; this one has {own}): does another controller run on a \
         copy or backup of it, or was this machine's clock set back? Enrol the host again and restart its agent to let it \
         forget the later one"
    )
}

async fn await_reply(
    host: &HostName,
    what: &'static str,
    ms: u64,
    asked: Option<oneshot::Receiver<Answer>>,
) -> Result<Answer, GatewayError> {
    let asked = asked.ok_or_else(|| GatewayError::Lost(host.clone()))?;
    match tokio::time::timeout(Duration::from_millis(ms), asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(GatewayError::Lost(host.clone())),
        Err(_) => Err(GatewayError::Timeout {
            host: host.clone(),
            what,
            ms,
        }),
    }
}

/// A place among the hosts that are asked at once.
async fn turn<'a>(
    host: &HostName,
    what: &'static str,
    turns: &'a Semaphore,
    within: Duration,
) -> Result<SemaphorePermit<'a>, GatewayError> {
    match tokio::time::timeout(within, turns.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        // No semaphore of ours is ever closed.
        Ok(Err(_)) | Err(_) => Err(GatewayError::Busy {
            host: host.clone(),
            what,
            ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

pub(crate) fn probe_start(run: &RunId, probe: v1::Probe) -> Body {
    Body::ProbeStart(ProbeStart {
        run: run.to_string(),
        probe: Some(probe),
    })
}

fn malformed(host: &HostName, error: impl std::fmt::Display) -> GatewayError {
    GatewayError::OrderRefused {
        host: host.clone(),
        code: "malformed".to_owned(),
        message: error.to_string(),
    }
}

impl Latch for HaltLatch {
    fn get(&self) -> HaltState {
        HaltLatch::get(self)
    }

    fn set(&self, state: HaltState) -> io::Result<()> {
        HaltLatch::set(self, state)
    }
}

impl HostGateway for Dispatcher {
    fn hosts(&self) -> Vec<Arc<Host>> {
        self.fleet().hosts()
    }

    fn host(&self, host: &HostName) -> Option<Arc<Host>> {
        self.fleet().host(host)
    }

    fn catalogue(&self, host: &HostName) -> Option<Arc<Catalogue>> {
        Some(self.fleet().get(host)?.catalogue()?.catalogue.clone())
    }

    fn boot_id(&self, host: &HostName) -> Option<String> {
        self.fleet().get(host)?.live.as_ref().map(|live| live.boot_id.clone())
    }

    fn preflight<'a>(&'a self, host: &'a HostName, wishes: Vec<Wish>) -> BoxFuture<'a, Result<PreflightReply, GatewayError>> {
        Box::pin(async move {
            self.may_start(host)?;
            let questions = wishes.iter().map(PreflightQuestion::from).collect();
            let _turn = turn(host, "preflight", &self.0.preflights, ASKED_WITHIN).await?;
            let asked = self.link(host)?.ask(|request| Body::Preflight(Preflight { request, questions }));
            let Answer::Preflight(answer) = await_reply(host, "preflight", self.0.parts.settings.preflight_within_ms, asked).await? else {
                return Err(malformed(host, "a proof where preflight was asked"));
            };
            let answers = answer.results.into_iter().map(Into::into).collect();
            let fleet = self.fleet();
            let live = fleet
                .get(host)
                .and_then(|e| e.live.as_ref())
                .ok_or_else(|| GatewayError::Lost(host.clone()))?;
            Ok(PreflightReply {
                answers,
                boot_id: answer.boot_id,
                agent_version: live.agent_version.clone(),
                kernel: live.facts.kernel.clone(),
                catalogue_digest: live.catalogue.digest.clone(),
            })
        })
    }

    fn start<'a>(
        &'a self,
        host: &'a HostName,
        run: &'a RunId,
        injection: &'a Injection,
        digest: &'a PlanDigest,
        lease_ms: u64,
    ) -> BoxFuture<'a, Result<(), GatewayError>> {
        let start = Body::Start(Start {
            injection: injection.id.to_string(),
            run: run.to_string(),
            fault: injection.wish.fault.to_string(),
            params_json: injection.wish.params.to_string(),
            duration_ms: injection.wish.duration_ms,
            lease_ms,
            plan_digest: digest.to_string(),
            seed: injection.wish.seed,
            unattended: injection.wish.unattended,
        });
        Box::pin(ready(self.may_start(host).and_then(|()| self.order(host, start))))
    }

    fn stop<'a>(&'a self, host: &'a HostName, injection: &'a InjectionId, cause: EndedBy) -> BoxFuture<'a, Result<(), GatewayError>> {
        let stop = Body::Stop(Stop {
            injection: injection.to_string(),
            cause: v1::EndedBy::from(cause).into(),
        });
        let told = self
            .fleet()
            .links(host)
            .into_iter()
            .filter(|link| link.send_first(stop.clone()))
            .count();
        Box::pin(ready(if told > 0 { Ok(()) } else { Err(GatewayError::Lost(host.clone())) }))
    }

    fn renew(&self, host: &HostName, injections: &[InjectionId], lease_ms: u64) {
        let injections = injections.iter().map(ToString::to_string).collect();
        if let Err(error) = self.order(host, Body::Lease(Lease { injections, lease_ms })) {
            tracing::debug!(%host, error = %error, "lease not renewed");
        }
    }

    fn doctor<'a>(&'a self, host: &'a HostName) -> BoxFuture<'a, Result<HostDoctor, GatewayError>> {
        Box::pin(async move {
            let asked = self.link(host)?.ask(|request| Body::Doctor(Doctor { request }));
            let within = self.0.parts.settings.preflight_within_ms;
            let Answer::Doctor(answer) = await_reply(host, "what it can do", within, asked).await? else {
                return Err(malformed(host, "something else where its abilities were asked"));
            };
            serde_json::from_str(&answer.doctor_json).map_err(|e| malformed(host, e))
        })
    }

    fn verify<'a>(&'a self, host: &'a HostName, injections: Vec<InjectionId>) -> BoxFuture<'a, Result<CleanProof, GatewayError>> {
        Box::pin(async move {
            let injections = injections.iter().map(ToString::to_string).collect();
            let _turn = turn(host, "its proof", &self.0.proofs, ASKED_WITHIN).await?;
            let asked = self.link(host)?.ask(|request| Body::Verify(Verify { request, injections }));
            let Answer::Verify(answer) = await_reply(host, "its proof", self.0.parts.settings.verify_within_ms, asked).await? else {
                return Err(malformed(host, "a preflight where a proof was asked"));
            };
            convert::proof_or_missing(answer.proof).map_err(|e| malformed(host, e))
        })
    }

    fn settle(&self, host: &HostName, injections: &[InjectionId]) {
        let injections = injections.iter().map(ToString::to_string).collect();
        if let Err(error) = self.order(host, Body::Settled(Settled { injections })) {
            tracing::debug!(%host, error = %error, "not settled; the host will tell it again");
        }
    }

    fn probe_start(&self, host: &HostName, run: &RunId, probe: &ProbeSpec) -> Result<(), GatewayError> {
        let start = v1::Probe::try_from(probe).map_err(|e| malformed(host, e))?;
        if let Some(entry) = self.fleet().get_mut(host) {
            entry.probes.retain(|(of, known)| of != run || known.name != probe.name);
            entry.probes.push((run.clone(), probe.clone()));
        }
        self.order(host, probe_start(run, start))
    }

    fn probe_stop(&self, host: &HostName, run: &RunId) {
        if let Some(entry) = self.fleet().get_mut(host) {
            entry.probes.retain(|(of, _)| of != run);
        }
        if let Err(error) = self.order(host, Body::ProbeStop(ProbeStop { run: run.to_string() })) {
            tracing::debug!(%host, error = %error, "probes not stopped; they end with the session");
        }
    }

    fn accept<'a>(&'a self, host: &'a HostName, by: &'a str, reason: &'a str) -> BoxFuture<'a, Result<(), GatewayError>> {
        let accept = Body::Accept(Accept {
            by: by.to_owned(),
            reason: reason.to_owned(),
        });
        Box::pin(ready(self.order(host, accept)))
    }

    fn lock(&self, host: &HostName, reason: &str) {
        if let Some(record) = self.record_of(host) {
            self.take(HostRecord {
                membership: Membership::Locked,
                locked: Some(reason.to_owned()),
                ..record
            });
        }
    }

    fn refresh<'a>(&'a self, host: &'a HostName) -> BoxFuture<'a, ()> {
        Box::pin(self.reread(host))
    }

    fn silent(&self, epoch: u64) -> Vec<HostName> {
        let fleet = self.fleet();
        let answered = |entry: &Entry| entry.halt_answer.is_some_and(|(answered, _)| answered >= epoch);
        let silent = fleet.iter().filter(|(_, entry)| entry.live.is_some() && !answered(entry));
        silent.map(|(name, _)| name.clone()).collect()
    }

    fn halt<'a>(&'a self, state: HaltState, wait_ms: u64) -> BoxFuture<'a, HaltOutcome> {
        Box::pin(async move {
            let started = Instant::now();
            self.0.epochs.halt.fetch_max(state.epoch, Ordering::SeqCst);
            let body = || match state.engaged {
                true => Body::Halt(Halt {
                    reason: state.reason.clone(),
                }),
                false => Body::Release(Release {
                    reason: state.reason.clone(),
                }),
            };
            let mut heard = self.0.halt_heard.subscribe();
            // A host whose queue is full counts as told: it stays silent, and is shown as silent.
            let mut told = Vec::new();
            for (name, entry) in self.fleet().iter() {
                for live in entry.sessions() {
                    live.link.send_first(body());
                }
                told.extend(entry.live.is_some().then(|| name.clone()));
            }
            let until = tokio::time::Instant::now() + Duration::from_millis(wait_ms);
            let mut missing = self.unanswered(&told, state.epoch);
            while !missing.is_empty() {
                match tokio::time::timeout_at(until, heard.recv()).await {
                    Ok(Ok((host, epoch))) if epoch >= state.epoch => drop(missing.remove(&host)),
                    Ok(Ok(_)) => {}
                    Ok(Err(RecvError::Lagged(_))) => missing = self.unanswered(&told, state.epoch),
                    Ok(Err(RecvError::Closed)) | Err(_) => break,
                }
            }
            let (answered, undone) = self.halt_answers(&told, state.epoch);
            HaltOutcome {
                told,
                answered,
                undone,
                took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            }
        })
    }
}

impl Dispatcher {
    fn unanswered(&self, hosts: &[HostName], epoch: u64) -> HashSet<HostName> {
        let answered: HashSet<HostName> = self.halt_answers(hosts, epoch).0.into_iter().collect();
        hosts.iter().filter(|host| !answered.contains(*host)).cloned().collect()
    }

    fn halt_answers(&self, told: &[HostName], epoch: u64) -> (Vec<HostName>, u32) {
        let fleet = self.fleet();
        let answers = told.iter().filter_map(|name| {
            let (answered, undone) = fleet.get(name)?.halt_answer?;
            (answered >= epoch).then(|| (name.clone(), undone))
        });
        let (names, undone): (Vec<HostName>, Vec<u32>) = answers.unzip();
        (names, undone.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_whose_turn_does_not_come_is_said_to_be_unasked() {
        let (turns, host) = (Semaphore::new(1), HostName::parse("web").unwrap());
        let short = Duration::from_millis(20);
        let first = turn(&host, "preflight", &turns, short).await.unwrap();
        let error = turn(&host, "preflight", &turns, short).await.unwrap_err();
        assert!(
            error.to_string().starts_with("host web was not asked for preflight: 20 ms"),
            "{error}"
        );
        drop(first);
        assert!(turn(&host, "preflight", &turns, short).await.is_ok());
    }
}
