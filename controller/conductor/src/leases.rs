//! When the lease of each active injection was last renewed from here, for people who watch; nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto_model::id::{InjectionId, RunId};
use proto_model::injection::Injection;
use proto_model::time::Timestamp;

use crate::going::Going;

#[derive(Clone, Default)]
pub(crate) struct Leases(Arc<Mutex<BTreeMap<InjectionId, Timestamp>>>);

impl Leases {
    pub fn renewed(&self, injections: &[InjectionId], at: Timestamp) {
        let mut leases = self.lock();
        leases.extend(injections.iter().map(|id| (id.clone(), at)));
    }

    pub fn forget(&self, injections: &[Injection]) {
        let mut leases = self.lock();
        for injection in injections {
            leases.remove(&injection.id);
        }
    }

    /// Every injection of these runs.
    pub fn of(&self, runs: &BTreeMap<RunId, Going>) -> Vec<Leased> {
        let leases = self.lock();
        let of_run = |run: &RunId, injection: &Injection| Leased {
            run: run.clone(),
            injection: injection.clone(),
            renewed_at: leases.get(&injection.id).copied(),
        };
        runs.iter()
            .flat_map(|(run, going)| going.injections.iter().map(|injection| of_run(run, injection)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InjectionId, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An injection of an unfinished run, as it was ordered.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    pub run: RunId,
    pub injection: Injection,
    /// `None` before the first renewal: the order itself gave the lease.
    pub renewed_at: Option<Timestamp>,
}
