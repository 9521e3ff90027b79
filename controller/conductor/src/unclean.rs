//! Hosts that still owe a proof: asked again until they give it, which amends the cleanup of their runs and never a verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use controller_report::History;
use controller_store::{Actor, StoreError, StoreHandle};
use proto_model::document::ErrorBody;
use proto_model::event::{Event, EventBody, FleetEventBody, NewEvent};
use proto_model::host::Connection;
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::{CleanProof, Cleanliness};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::supervisor::{Inner, Supervisor, store_error};

/// How often hosts that owe a proof are asked again.
const SWEEP: Duration = Duration::from_secs(10);
/// Finished runs that are looked through for missing proofs after a restart.
const LOOK_BACK: u32 = 200;

/// By host, the runs that ended without its proof.
#[derive(Default)]
pub(crate) struct Unclean(Mutex<BTreeMap<HostName, BTreeSet<RunId>>>);

impl Unclean {
    /// What the store remembers of it.
    pub async fn load(&self, store: &StoreHandle) -> Result<(), StoreError> {
        for record in store.hosts().await? {
            if record.cleanliness != Cleanliness::Clean {
                self.lock().entry(record.name).or_default();
            }
        }
        for row in store.runs(LOOK_BACK, false).await?.into_iter().filter(|row| row.finished) {
            let events = store.run_events(&row.id, 1).await?;
            for (host, proof) in History::of(&events).map(|h| h.proofs).unwrap_or_default() {
                if proof.result != Cleanliness::Clean {
                    self.lock().entry(host).or_default().insert(row.id.clone());
                }
            }
        }
        Ok(())
    }

    fn hosts(&self) -> Vec<HostName> {
        self.lock().keys().cloned().collect()
    }

    fn runs_of(&self, host: &HostName) -> BTreeSet<RunId> {
        self.lock().get(host).cloned().unwrap_or_default()
    }

    /// These runs have their proof; what was added meanwhile is still owed.
    fn settle(&self, host: &HostName, runs: &BTreeSet<RunId>) {
        let mut owed = self.lock();
        let left = owed.get_mut(host).map(|all| {
            all.retain(|run| !runs.contains(run));
            all.len()
        });
        if left == Some(0) {
            owed.remove(host);
        }
    }

    fn owes(&self, host: &HostName) -> bool {
        self.lock().contains_key(host)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostName, BTreeSet<RunId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps what runs learn about their hosts, and asks again where a proof is owed, as long as there is a supervisor.
pub(crate) async fn keep(supervisor: Weak<Inner>, mut proven: mpsc::Receiver<Event>) {
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let event = tokio::select! {
            event = proven.recv() => event,
            _ = sweep.tick() => None,
        };
        let Some(this) = supervisor.upgrade().map(Supervisor) else { return };
        match event {
            Some(Event {
                run_id,
                body: EventBody::HostVerified { host, proof },
                ..
            }) => this.learn(&run_id, &host, &proof).await,
            Some(_) => {}
            None => this.sweep().await,
        }
    }
}

impl Supervisor {
    async fn learn(&self, run: &RunId, host: &HostName, proof: &CleanProof) {
        let clean = proof.result == Cleanliness::Clean;
        if clean && !self.0.unclean.owes(host) {
            return;
        }
        if !clean {
            self.0.unclean.lock().entry(host.clone()).or_default().insert(run.clone());
        } else if let Some(runs) = self.0.unclean.lock().get_mut(host) {
            runs.remove(run);
        }
        self.keep_cleanliness(host, proof).await;
    }

    /// What a host proved, into what is stored about it.
    async fn keep_cleanliness(&self, host: &HostName, proof: &CleanProof) {
        let parts = &self.0.parts;
        let Ok(hosts) = parts.store.hosts().await else { return };
        let Some(mut record) = hosts.into_iter().find(|h| &h.name == host) else {
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
        match parts.store.put_host(&record, event, &actor, (parts.now)()).await {
            Ok(()) => parts.voice.refresh(record),
            Err(error) => tracing::error!(%host, %error, "the host's cleanliness could not be stored"),
        }
    }

    /// Hosts that are here again and that no active run is going to ask.
    async fn sweep(&self) {
        let hosts = self.0.parts.voice.hosts();
        for host in self.0.unclean.hosts() {
            let here = hosts.iter().any(|h| h.name == host && h.connection == Connection::Connected);
            let asked_by_a_run = self.runs().values().any(|going| going.injections.iter().any(|i| i.host == host));
            if here
                && !asked_by_a_run
                && let Err(error) = self.prove(&host).await
            {
                tracing::warn!(%host, error = error.message, "the host still owes a proof");
            }
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
        for run in &runs {
            self.amend(host, run, &proof).await.map_err(store_error)?;
        }
        if proof.result == Cleanliness::Clean {
            self.0.unclean.settle(host, &runs);
        } else {
            self.0.unclean.lock().entry(host.clone()).or_default();
        }
        Ok(())
    }

    async fn ordered_on(&self, host: &HostName, run: &RunId) -> Result<Vec<InjectionId>, ErrorBody> {
        let events = self.0.parts.store.run_events(run, 1).await.map_err(store_error)?;
        let injections = History::of(&events).map(|h| h.injections).unwrap_or_default();
        let here = injections
            .into_iter()
            .filter(|i| &i.injection.host == host && i.ordered_at.is_some());
        Ok(here.map(|i| i.injection.id).collect())
    }

    /// Only what changes is news, and only of a run that has its verdict. One at a time, so that who is answered "nothing new" finds it on record.
    async fn amend(&self, host: &HostName, run: &RunId, proof: &CleanProof) -> Result<(), StoreError> {
        let _turn = self.0.amending.lock().await;
        let parts = &self.0.parts;
        let events = parts.store.run_events(run, 1).await?;
        let judged = events.iter().any(|e| matches!(e.body, EventBody::RunJudged { .. }));
        let Some(mut history) = History::of(&events) else { return Ok(()) };
        let known = history.proofs.insert(host.clone(), proof.clone());
        if !judged || known.is_some_and(|known| known.result == proof.result && known.digest == proof.digest) {
            return Ok(());
        }
        let event = |body| NewEvent {
            at: (parts.now)(),
            by: "controller".to_owned(),
            source: None,
            body,
        };
        let verified = event(EventBody::HostVerified {
            host: host.clone(),
            proof: proof.clone(),
        });
        let amended = event(EventBody::RunAmended {
            cleanup: history.cleanup(),
            hosts: vec![host.clone()],
            cause: format!("{host} was asked again and is {}", proof.result.as_str()),
        });
        let stored = parts.store.append(run, vec![verified, amended]).await?;
        stored.into_iter().for_each(|event| drop(self.0.news.send(event)));
        crate::summaries::keep(&parts.store, run).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_came_while_a_host_was_asked_is_still_owed() {
        let unclean = Unclean::default();
        let host = HostName::parse("web").unwrap();
        let (first, second) = (RunId::generate(), RunId::generate());
        unclean.lock().entry(host.clone()).or_default().insert(first);
        let asked = unclean.runs_of(&host);
        unclean.lock().entry(host.clone()).or_default().insert(second.clone());
        unclean.settle(&host, &asked);
        assert_eq!(unclean.runs_of(&host), BTreeSet::from([second.clone()]));
        unclean.settle(&host, &BTreeSet::from([second]));
        assert!(!unclean.owes(&host));
    }
}
