//! The runs that are not finished, as the policy counts them: shared by the supervisor, which admits runs, and by each run's driver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use controller_policy::{ActiveRun, Denial, Occupancy, Policy, Stage, check};
use proto_model::host::Host;
use proto_model::id::RunId;
use proto_model::plan::Plan;

/// Clones share the same runs.
#[derive(Clone)]
pub(crate) struct ActiveRuns {
    policy: Arc<Policy>,
    runs: Arc<Mutex<BTreeMap<RunId, ActiveRun>>>,
}

impl ActiveRuns {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy: Arc::new(policy),
            runs: Arc::default(),
        }
    }

    /// Whether the plan may be injected beside all of them.
    pub fn check(&self, plan: &Plan, stage: Stage<'_>, hosts: &[Arc<Host>]) -> Result<(), Denial> {
        let runs = self.lock();
        check(
            plan,
            stage,
            &self.policy,
            &Occupancy::new(hosts.iter().map(Arc::as_ref), runs.values()),
        )
    }

    pub fn insert(&self, run: ActiveRun) {
        self.lock().insert(run.id.clone(), run);
    }

    pub fn remove(&self, run: &RunId) {
        self.lock().remove(run);
    }

    pub fn all(&self) -> Vec<ActiveRun> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, ActiveRun>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
