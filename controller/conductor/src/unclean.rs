//! Which hosts still owe a proof, and of which runs. It asks nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use controller_report::RunState;
use controller_store::{StoreError, StoreHandle};
use proto_model::id::{HostName, RunId};
use proto_model::injection::Cleanliness;

/// Finished runs without a summary that are read for missing proofs after a restart, the newest: of others the summary says it.
const LOOK_BACK: u32 = 200;

/// By host, the runs that ended without its proof.
#[derive(Default)]
pub(crate) struct Unclean(Mutex<BTreeMap<HostName, BTreeSet<RunId>>>);

impl Unclean {
    /// What the store remembers of it.
    pub async fn load(&self, store: &StoreHandle) -> Result<(), StoreError> {
        for record in store.call(|store| store.hosts()).await? {
            if record.cleanliness != Cleanliness::Clean {
                self.lock().entry(record.name).or_default();
            }
        }
        let owing = store.call(|store| store.runs_owing_proof(LOOK_BACK)).await?;
        for run in owing {
            self.read(store, &run).await?;
        }
        Ok(())
    }

    /// Who owes a proof of this run.
    async fn read(&self, store: &StoreHandle, run: &RunId) -> Result<(), StoreError> {
        let id = run.clone();
        let events = store.call(move |store| store.run_events(&id, 1)).await?;
        for (host, status) in RunState::of(&events).iter().flat_map(|state| &state.proofs) {
            if status.proof.result != Cleanliness::Clean {
                self.owe_of(host, run);
            }
        }
        Ok(())
    }

    pub fn hosts(&self) -> Vec<HostName> {
        self.lock().keys().cloned().collect()
    }

    pub fn runs_of(&self, host: &HostName) -> BTreeSet<RunId> {
        self.lock().get(host).cloned().unwrap_or_default()
    }

    /// These runs have their proof; what was added meanwhile is still owed.
    pub fn settle(&self, host: &HostName, runs: &BTreeSet<RunId>) {
        let mut owed = self.lock();
        let left = owed.get_mut(host).map(|all| {
            all.retain(|run| !runs.contains(run));
            all.len()
        });
        if left == Some(0) {
            owed.remove(host);
        }
    }

    /// The host owes a proof, of no run in particular.
    pub fn owe(&self, host: &HostName) {
        self.lock().entry(host.clone()).or_default();
    }

    pub fn owe_of(&self, host: &HostName, run: &RunId) {
        self.lock().entry(host.clone()).or_default().insert(run.clone());
    }

    /// The run itself has the proof; whether the host owes others is for the next sweep to find.
    pub fn proven_of(&self, host: &HostName, run: &RunId) {
        if let Some(runs) = self.lock().get_mut(host) {
            runs.remove(run);
        }
    }

    pub fn owes(&self, host: &HostName) -> bool {
        self.lock().contains_key(host)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostName, BTreeSet<RunId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
