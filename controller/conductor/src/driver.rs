//! The thin driver of one run: takes inputs, makes each decision durable, then acts on it. It decides nothing.

use std::sync::Arc;
use std::time::Duration;

use controller_policy::Stage;
use controller_store::StoreHandle;
use proto_model::event::{Event, EventBody, NewEvent};
use proto_model::id::{HostName, PlanDigest};
use proto_model::injection::EndedBy;
use proto_model::probe::{ProbeSpec, Prober, Sample, SampledBy};
use proto_probes::{AddressRule, run_probe};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::active::ActiveRuns;
use crate::clock::RunClock;
use crate::host_gateway::HostGateway;
use crate::host_proof::HostProof;
use crate::leases::Leases;
use crate::machine::{Action, Conductor, Decision, Input};

/// Inputs that are decided on together.
const INPUTS: usize = 256;
/// How long samples and observations wait to be stored together: a write each would cost a disk flush each.
const BATCH: Duration = Duration::from_secs(1);
/// Inputs of one run that may wait.
pub(crate) const INBOX: usize = 1_024;
/// Samples of one probe that may wait.
const SAMPLES: usize = 16;
/// How long a run that lost its store tells a host to undo, before its lease has to.
const PARTING: Duration = Duration::from_secs(5);

/// What a driver needs beside the run itself.
#[derive(Clone)]
pub(crate) struct Means {
    pub store: StoreHandle,
    pub voice: Arc<dyn HostGateway>,
    pub rule: AddressRule,
    /// What all runs inject, and what they may.
    pub active: ActiveRuns,
    pub clock: RunClock,
    pub leases: Leases,
    /// Every event as it is stored.
    pub news: broadcast::Sender<Event>,
    /// Proofs, for what is kept about hosts.
    pub proofs: mpsc::Sender<HostProof>,
}

pub(crate) struct Driver {
    conductor: Conductor,
    digest: PlanDigest,
    means: Means,
    inbox: mpsc::Receiver<Input>,
    /// Into our own inbox, for what is asked in the background.
    own: mpsc::Sender<Input>,
    /// Decided, not yet stored, and nothing waits for it.
    held: Vec<NewEvent>,
    held_since: Option<Instant>,
    asked: JoinSet<()>,
    probes: JoinSet<()>,
}

impl Driver {
    pub fn new(conductor: Conductor, means: Means, own: mpsc::Sender<Input>, inbox: mpsc::Receiver<Input>) -> Self {
        Self {
            digest: conductor.plan().digest(),
            conductor,
            means,
            inbox,
            own,
            held: Vec::new(),
            held_since: None,
            asked: JoinSet::new(),
            probes: JoinSet::new(),
        }
    }

    /// Until the run is finished; false when its store is lost before.
    pub async fn drive(mut self, first: Decision) -> bool {
        let mut decision = first;
        loop {
            if !self.follow(decision).await {
                self.abandon().await;
                return false;
            }
            if self.conductor.is_finished() {
                return true;
            }
            decision = self.decide().await;
        }
    }

    /// Waits for inputs or for the next moment at which something is due, and takes all that has come as one decision: it is made
    /// durable by one write, however many hosts report at once.
    async fn decide(&mut self) -> Decision {
        let (mut inputs, wait) = (Vec::new(), self.until_due());
        tokio::select! {
            _ = self.inbox.recv_many(&mut inputs, INPUTS) => {}
            () = tokio::time::sleep(wait) => {}
        }
        while self.asked.try_join_next().is_some() {}
        let now = self.means.clock.now();
        if now >= self.conductor.due() || inputs.is_empty() {
            inputs.push(Input::Tick);
        }
        let mut all = Decision::default();
        for input in inputs {
            if self.conductor.is_finished() {
                break;
            }
            let one = self.conductor.step(now, input);
            all.record.extend(one.record);
            all.act.extend(one.act);
        }
        all
    }

    fn until_due(&self) -> Duration {
        let due = Duration::from_millis(self.conductor.due().since(self.means.clock.now()));
        let flush = self.held_since.map(|since| BATCH.saturating_sub(since.elapsed()));
        flush.map_or(due, |flush| due.min(flush))
    }

    fn room(&self, path: &str) -> Result<(), String> {
        let run = self.conductor.run();
        let (stage, hosts) = (Stage::Step { run, path }, self.means.voice.hosts());
        let answer = self.means.active.check(self.conductor.plan(), stage, &hosts);
        answer.map_err(|denial| denial.to_string())
    }

    /// Durable first; only then is it done. False when the store is lost.
    async fn follow(&mut self, decision: Decision) -> bool {
        let waits = decision.act.is_empty() && decision.record.iter().all(|event| event.body.is_telemetry());
        if !decision.record.is_empty() {
            self.held_since.get_or_insert_with(Instant::now);
            self.held.extend(decision.record);
        }
        let due = self.held_since.is_some_and(|since| since.elapsed() >= BATCH);
        if (due || !waits) && !self.keep().await {
            return false;
        }
        decision.act.into_iter().for_each(|action| self.perform(action));
        true
    }

    async fn keep(&mut self) -> bool {
        self.held_since = None;
        let record = std::mem::take(&mut self.held);
        if record.is_empty() {
            return true;
        }
        let run = self.conductor.run().clone();
        let stored = match self.means.store.call(move |store| store.append(&run, record)).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::error!(run = %self.conductor.run(), %error, "the run cannot be recorded and is stopped on its hosts");
                return false;
            }
        };
        for event in stored {
            if proof_in(&event).is_some_and(|proof| self.means.proofs.try_send(proof).is_err()) {
                tracing::warn!(run = %event.run_id, "what is kept about hosts is behind; the host is asked again");
            }
            // Nobody watching is no error.
            let _ = self.means.news.send(event);
        }
        true
    }

    /// Without a store nothing may go on: leases are no longer renewed, and every host is told to undo.
    async fn abandon(self) {
        for injection in self.conductor.out() {
            let stop = self.means.voice.stop(&injection.host, &injection.id, EndedBy::Stop);
            if !matches!(tokio::time::timeout(PARTING, stop).await, Ok(Ok(()))) {
                tracing::warn!(host = %injection.host, injection = %injection.id, "stop not delivered; the lease ends it");
            }
        }
    }

    fn perform(&mut self, action: Action) {
        let (voice, own, run) = (self.means.voice.clone(), self.own.clone(), self.conductor.run().clone());
        match action {
            Action::Preflight { host, wishes } => self.ask(async move {
                let reply = voice.preflight(&host, wishes).await;
                let _ = own.send(Input::Preflight { host, reply }).await;
            }),
            Action::Room { step } => {
                let answer = self.room(&step);
                self.ask(async move { drop(own.send(Input::Room { step, answer }).await) });
            }
            Action::Order { injection } => {
                let (digest, lease_ms) = (self.digest.clone(), self.conductor.settings().lease_ms);
                self.ask(async move {
                    if let Err(error) = voice.start(&injection.host, &run, &injection, &digest, lease_ms).await {
                        let _ = own
                            .send(Input::OrderFailed {
                                injection: injection.id,
                                error,
                            })
                            .await;
                    }
                });
            }
            Action::Stop { host, injection, cause } => self.ask(async move {
                if let Err(error) = voice.stop(&host, &injection, cause).await {
                    tracing::warn!(%host, %injection, %error, "stop not delivered; it is asked for again");
                }
            }),
            Action::Renew { host, injections } => {
                voice.renew(&host, &injections, self.conductor.settings().lease_ms);
                self.means.leases.renewed(&injections, self.means.clock.now());
            }
            Action::Verify { host, injections } => self.ask(async move {
                let proof = voice.verify(&host, injections).await;
                let _ = own.send(Input::Verified { host, proof }).await;
            }),
            Action::Settle { host, injections } => voice.settle(&host, &injections),
            Action::StartProbes => self.start_probes(),
            Action::ProbeAgain { host } => self.probe_again(&host),
            Action::StopProbes => self.stop_probes(),
            Action::Finished => {}
        }
    }

    fn ask(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.asked.spawn(task);
    }

    fn start_probes(&mut self) {
        for probe in self.conductor.plan().probes().cloned().collect::<Vec<_>>() {
            match &probe.from {
                Prober::Controller => self.probe_here(probe),
                Prober::Hosts(hosts) => hosts.iter().for_each(|host| self.probe_from(host, &probe)),
            }
        }
    }

    fn probe_again(&self, host: &HostName) {
        let of_host = |probe: &&ProbeSpec| matches!(&probe.from, Prober::Hosts(hosts) if hosts.contains(host));
        self.conductor
            .plan()
            .probes()
            .filter(of_host)
            .for_each(|probe| self.probe_from(host, probe));
    }

    fn probe_from(&self, host: &HostName, probe: &ProbeSpec) {
        if let Err(error) = self.means.voice.probe_start(host, self.conductor.run(), probe) {
            tracing::warn!(%host, probe = probe.name, %error, "the prober cannot be asked; its samples are missing");
        }
    }

    fn stop_probes(&mut self) {
        self.probes.abort_all();
        let run = self.conductor.run();
        let hosts = self.conductor.plan().probes().filter_map(|probe| match &probe.from {
            Prober::Controller => None,
            Prober::Hosts(names) => Some(names),
        });
        let hosts: std::collections::BTreeSet<_> = hosts.flatten().collect();
        hosts.into_iter().for_each(|host| self.means.voice.probe_stop(host, run));
    }

    fn probe_here(&mut self, probe: ProbeSpec) {
        let (sender, mut samples) = mpsc::channel::<Sample>(SAMPLES);
        let clock = self.means.clock.clone();
        self.probes.spawn(run_probe(
            probe,
            SampledBy::Controller,
            self.means.rule.clone(),
            sender,
            move || clock.now(),
        ));
        let own = self.own.clone();
        self.probes.spawn(async move {
            while let Some(sample) = samples.recv().await {
                if own
                    .send(Input::Sample {
                        from: SampledBy::Controller,
                        sample,
                    })
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
    }
}

/// What is kept about hosts beyond the run. Every event by name, so that a new one is decided here too.
fn proof_in(event: &Event) -> Option<HostProof> {
    match &event.body {
        EventBody::HostVerified { host, proof } => Some(HostProof {
            run: event.run_id.clone(),
            host: host.clone(),
            proof: proof.clone(),
        }),
        EventBody::RunAccepted { .. }
        | EventBody::RunPhase { .. }
        | EventBody::HostPreflight { .. }
        | EventBody::ProbeSampled { .. }
        | EventBody::GuardBroken { .. }
        | EventBody::StepStarted { .. }
        | EventBody::StepEnded { .. }
        | EventBody::InjectionOrdered { .. }
        | EventBody::InjectionWithdrawn { .. }
        | EventBody::InjectionRefused { .. }
        | EventBody::InjectionApplied { .. }
        | EventBody::InjectionObserved { .. }
        | EventBody::InjectionEnding { .. }
        | EventBody::InjectionUndone { .. }
        | EventBody::InjectionUndoFailed { .. }
        | EventBody::InjectionSpent { .. }
        | EventBody::ReportsDropped { .. }
        | EventBody::LeaseLapsed { .. }
        | EventBody::HostLost { .. }
        | EventBody::HostReturned { .. }
        | EventBody::StopRequested { .. }
        | EventBody::ControllerRestarted { .. }
        | EventBody::HypothesisRecovered { .. }
        | EventBody::RunJudged { .. }
        | EventBody::RunAmended { .. }
        | EventBody::NoteAdded { .. } => None,
    }
}
