//! Asks hosts that owe a proof again until they give it, which amends the cleanup of their runs and never a verdict.

use std::sync::Weak;
use std::time::Duration;

use controller_report::{ProofStatus, RunState};
use controller_store::{Actor, StoreError};
use proto_model::document::ErrorBody;
use proto_model::event::{EventBody, FleetEventBody, NewEvent};
use proto_model::host::Connection;
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{CleanProof, Cleanliness};
use proto_model::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::host_proof::HostProof;
use crate::summaries;
use crate::supervisor::{Inner, Supervisor, store_error};

/// How often hosts that owe a proof are asked again.
const SWEEP: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Keeps what runs learn about their hosts, and asks again where a proof is owed, as long as there is a supervisor.
    pub(crate) async fn keep_proofs(supervisor: Weak<Inner>, mut proven: mpsc::Receiver<HostProof>) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let proof = tokio::select! {
                proof = proven.recv() => proof,
                _ = sweep.tick() => None,
            };
            let Some(this) = supervisor.upgrade().map(Self) else { return };
            match proof {
                Some(HostProof { run, host, proof }) => this.learn(&run, &host, &proof).await,
                None => this.sweep().await,
            }
        }
    }

    async fn learn(&self, run: &RunId, host: &HostName, proof: &CleanProof) {
        let clean = proof.result == Cleanliness::Clean;
        if clean && !self.0.unclean.owes(host) {
            return;
        }
        if clean {
            self.0.unclean.proven_of(host, run);
        } else {
            self.0.unclean.owe_of(host, run);
        }
        self.keep_cleanliness(host, proof).await;
    }

    /// What a host proved, into what is stored about it.
    async fn keep_cleanliness(&self, host: &HostName, proof: &CleanProof) {
        let parts = &self.0.parts;
        let name = host.clone();
        let Ok(Some(mut record)) = parts.store.call(move |store| store.host(&name)).await else {
            return;
        };
        let residue: Vec<String> = proof.owned_left.iter().chain(&proof.not_restored).cloned().collect();
        if record.cleanliness == proof.result && record.residue == residue {
            return;
        }
        if proof.result == Cleanliness::Dirty {
            tracing::error!(%host, ?residue, "the host is dirty; nothing new is injected there");
        }
        (record.cleanliness, record.residue) = (proof.result, residue);
        let event = FleetEventBody::HostCleanliness {
            host: host.clone(),
            proof: proof.clone(),
        };
        let actor = Actor {
            by: "controller".to_owned(),
            address: String::new(),
        };
        let now = parts.clock.now();
        match parts.store.call(move |store| store.put_host(&record, event, &actor, now)).await {
            Ok(()) => parts.voice.refresh(host).await,
            Err(error) => tracing::error!(%host, %error, "the host's cleanliness could not be stored"),
        }
    }

    /// Hosts that are here again and that no active run is going to ask.
    async fn sweep(&self) {
        for host in self.0.unclean.hosts() {
            let known = self.0.parts.voice.host(&host);
            if known.is_some_and(|h| h.connection == Connection::Connected) {
                self.ask_what_is_owed(&host).await;
            }
        }
    }

    /// A host that is back is asked at once for the proof that it owes, unless a run of its own is going to ask.
    pub(crate) fn ask_returned(&self, host: &HostName) {
        if self.0.unclean.owes(host) {
            let (this, host) = (self.clone(), host.clone());
            tokio::spawn(async move { this.ask_what_is_owed(&host).await });
        }
    }

    async fn ask_what_is_owed(&self, host: &HostName) {
        let asked_by_a_run = self.runs().values().any(|going| going.injections.iter().any(|i| &i.host == host));
        if !asked_by_a_run && let Err(error) = self.prove(host).await {
            tracing::warn!(%host, error = error.message, "the host still owes a proof");
        }
    }

    /// Asks a host for its proof now, and amends the runs that ended without it.
    pub(crate) async fn prove(&self, host: &HostName) -> Result<(), ErrorBody> {
        let runs = self.0.unclean.runs_of(host);
        let mut injections = Vec::new();
        for run in &runs {
            injections.extend(self.ordered_on(host, run).await?);
        }
        let proof = self.0.parts.voice.verify(host, injections).await;
        let proof = proof.map_err(|error| ErrorBody::new("host_lost", error.to_string()))?;
        self.keep_cleanliness(host, &proof).await;
        let name = host.clone();
        let since = self
            .0
            .parts
            .store
            .call(move |store| store.host(&name))
            .await
            .map_err(store_error)?
            .map(|record| record.machine_since);
        for run in &runs {
            self.amend(host, run, &proof, since.unwrap_or_default())
                .await
                .map_err(store_error)?;
        }
        if proof.result == Cleanliness::Clean {
            self.0.unclean.settle(host, &runs);
        } else {
            self.0.unclean.owe(host);
        }
        Ok(())
    }

    async fn ordered_on(&self, host: &HostName, run: &RunId) -> Result<Vec<InjectionId>, ErrorBody> {
        let run = run.clone();
        let events = self
            .0
            .parts
            .store
            .call(move |store| store.run_events(&run, 1))
            .await
            .map_err(store_error)?;
        let Some(state) = RunState::of(&events) else {
            return Ok(Vec::new());
        };
        let here = state.injections_on(host).filter(|i| i.ordered_at.is_some());
        Ok(here.map(|i| i.injection.id.clone()).collect())
    }

    /// Only what changes is news, and only of a run that has its verdict. One at a time, so that who is answered "nothing new" finds it on record.
    /// Another machine that has taken the host's name since then proves nothing for it.
    async fn amend(&self, host: &HostName, run: &RunId, proof: &CleanProof, machine_since: Timestamp) -> Result<(), StoreError> {
        let _turn = self.0.amending.lock().await;
        let parts = &self.0.parts;
        let id = run.clone();
        let events = parts.store.call(move |store| store.run_events(&id, 1)).await?;
        if events.first().is_some_and(|first| first.at < machine_since) {
            return Ok(());
        }
        let Some(mut state) = RunState::of(&events) else { return Ok(()) };
        let known = |known: &CleanProof| known.result == proof.result && known.digest == proof.digest;
        if state.judged.is_none() || state.proof(host).is_some_and(known) {
            return Ok(());
        }
        let (proof, at) = (proof.clone(), parts.clock.now());
        state.proofs.insert(host.clone(), ProofStatus { proof: proof.clone(), at });
        let event = |body| NewEvent {
            at,
            by: "controller".to_owned(),
            source: None,
            body,
        };
        let verified = event(EventBody::HostVerified {
            host: host.clone(),
            proof: proof.clone(),
        });
        let amended = event(EventBody::RunAmended {
            cleanup: state.cleanup(),
            hosts: vec![host.clone()],
            cause: format!("{host} was asked again and is {}", proof.result.as_str()),
        });
        let id = run.clone();
        let stored = parts.store.call(move |store| store.append(&id, vec![verified, amended])).await?;
        stored.into_iter().for_each(|event| drop(self.0.news.send(event)));
        summaries::keep(&parts.store, run).await;
        Ok(())
    }
}
