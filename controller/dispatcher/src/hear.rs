//! What a host says in its session: facts, answers, samples and refusals, each brought to whoever waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use controller_conductor::HostEvent;
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{AgentFact, AgentReport};
use proto_model::probe::Sample;
use proto_model::problem::Refusal;
use proto_wire::convert;
use proto_wire::v1;
use proto_wire::v1::OrderRefused;
use proto_wire::v1::agent_message::Body as Said;
use proto_wire::v1::order_refused::Why;

use crate::dispatcher::Dispatcher;
use crate::fleet::{Entry, Live};
use crate::link::{Answer, Link};

impl Dispatcher {
    pub(crate) async fn hear(&self, name: &HostName, link: &Link, body: Said) {
        let now = self.now();
        let with_live = |change: &dyn Fn(&mut Live)| {
            if let Some(live) = self.fleet().get_mut(name).and_then(|e| e.session(&link.nonce)) {
                live.heard_at = now;
                change(live);
            }
        };
        with_live(&|_| {});
        match body {
            Said::Hello(_) => tracing::warn!(host = %name, "a second hello is left out"),
            Said::Heartbeat(beat) => {
                with_live(&|live| {
                    live.halted = beat.halted;
                    match convert::cleanliness(beat.cleanliness) {
                        Ok(cleanliness) => live.cleanliness = cleanliness,
                        Err(error) => tracing::warn!(host = %name, %error, "a heartbeat cannot be understood"),
                    }
                });
                self.remember(name).await;
            }
            // What a clone tells is of another machine; it tells it again once there is only one.
            Said::Report(_) | Said::Samples(_) if !self.is_first(name, link) => {}
            Said::Report(report) => self.hear_report(name, report).await,
            Said::Preflight(answer) => {
                if let Some(facts) = answer.facts.clone() {
                    self.hear_facts(name, link, facts).await;
                }
                link.answered(answer.request, Answer::Preflight(answer));
            }
            Said::Trust(trust) => self.hear_trust(name, link, trust).await,
            Said::Facts(facts) => self.hear_facts(name, link, facts).await,
            Said::Doctor(answer) => link.answered(answer.request, Answer::Doctor(answer)),
            Said::Verified(answer) => link.answered(answer.request, Answer::Verify(answer)),
            Said::Samples(samples) => self.hear_samples(name, samples),
            Said::Refused(refused) => self.hear_refusal(name, link, &refused).await,
            Said::Halt(answer) => {
                with_live(&|live| live.halted = answer.halted);
                if let Some(entry) = self.fleet().get_mut(name).filter(|entry| entry.is_first(&link.nonce)) {
                    entry.halt_answer = Some((answer.epoch, answer.undone));
                    // Often no halt waits for it. What a clone answers is not the host's answer.
                    let _ = self.0.halt_heard.send((name.clone(), answer.epoch));
                }
            }
        }
    }

    async fn hear_report(&self, name: &HostName, report: v1::InjectionReport) {
        let named = report.injection.clone();
        let report = match AgentReport::try_from(report) {
            Ok(report) => report,
            Err(error) => return tracing::warn!(host = %name, injection = named, %error, "a report cannot be understood"),
        };
        if let Some(live) = self.fleet().get_mut(name).and_then(|entry| entry.live.as_mut()) {
            live.take(&report.injection, &report.fact);
        }
        let droppable = matches!(report.fact, AgentFact::Observed(_));
        self.pass_on(name, report, droppable).await;
    }

    /// An end waits for room, and with it everything that this host says; an observation does not.
    async fn pass_on(&self, name: &HostName, report: AgentReport, droppable: bool) {
        let said = &self.0.parts.said;
        let host = name.clone();
        let report = HostEvent::Report { host, report };
        if !droppable {
            drop(said.send(report).await);
        } else if said.try_send(report).is_err() {
            self.count_dropped(name, "an observation");
        }
    }

    /// A start that the host did not take is told as what it is to the run: a refusal.
    async fn hear_refusal(&self, name: &HostName, link: &Link, refused: &OrderRefused) {
        let code = code_of(refused);
        tracing::warn!(host = %name, order = refused.order_seq, code, message = refused.message, "order refused");
        let Some(start) = link.start_of(refused.order_seq) else { return };
        let boot_id = self
            .fleet()
            .get_mut(name)
            .and_then(|e| e.session(&link.nonce).map(|l| l.boot_id.clone()));
        let (Ok(injection), Some(boot_id)) = (InjectionId::parse(&start.injection), boot_id) else {
            return;
        };
        let report = AgentReport {
            injection,
            run: start.run,
            agent_seq: 1,
            boot_id,
            boot_ms: 0,
            fact: AgentFact::Refused(Refusal::new(&code, "", &refused.message)),
        };
        self.pass_on(name, report, false).await;
    }

    fn is_first(&self, name: &HostName, link: &Link) -> bool {
        self.fleet().get(name).is_some_and(|entry| entry.is_first(&link.nonce))
    }

    fn count_dropped(&self, name: &HostName, what: &'static str) {
        let dropped = self.0.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(host = %name, what, dropped, "dropped under load");
    }

    fn hear_samples(&self, name: &HostName, samples: v1::Samples) {
        let all = samples.samples.into_iter().map(|sample| convert::sample_from_wire(name, sample));
        let (run, samples) = match (RunId::parse(&samples.run), all.collect::<Result<Vec<Sample>, _>>()) {
            (Ok(run), Ok(samples)) => (run, samples),
            (Err(error), _) => return tracing::warn!(host = %name, %error, "samples cannot be understood"),
            (_, Err(error)) => return tracing::warn!(host = %name, %error, "samples cannot be understood"),
        };
        let host = name.clone();
        if self.0.parts.said.try_send(HostEvent::Samples { host, run, samples }).is_err() {
            self.count_dropped(name, "samples");
        }
    }

    /// Facts that changed since the hello. Only the first session of a name speaks for the host.
    async fn hear_facts(&self, name: &HostName, link: &Link, facts: v1::HostFacts) {
        let facts = match facts.try_into() {
            Ok(facts) => facts,
            Err(error) => return tracing::warn!(host = %name, %error, "facts cannot be understood"),
        };
        let takes = |entry: &mut Entry| {
            if let Some(live) = entry.live.as_mut().filter(|live| live.link.nonce == link.nonce) {
                live.facts = Arc::new(facts);
            }
        };
        self.fleet().get_mut(name).map(takes);
        self.remember(name).await;
    }
}

/// The reason's stable word: `stale_halt_epoch`, `busy`, ...
fn code_of(refused: &OrderRefused) -> String {
    match refused.why() {
        Why::Unspecified => "refused".to_owned(),
        why => why.as_str_name().to_lowercase(),
    }
}
