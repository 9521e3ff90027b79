//! The last look at each run that goes on, so that lists which poll do not read its whole history every time. Never of a finished run.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use proto_model::document::{InjectionDocument, RunDocument};
use proto_model::id::RunId;
use proto_model::summary::RunSummary;

/// How old a look may be when there is news of the run.
const FRESH: Duration = Duration::from_secs(2);
/// Runs that are remembered: more than may be active.
const REMEMBERED: usize = 256;

#[derive(Default)]
pub struct Glances(Mutex<BTreeMap<RunId, Glance>>);

/// A run that goes on, in short, and what of it may act.
#[derive(Clone)]
pub(crate) struct Glance {
    at: Instant,
    seq: u64,
    pub summary: RunSummary,
    /// Ordered, and not yet at an end.
    pub injections: Vec<InjectionDocument>,
}

impl Glance {
    pub fn of(run: &RunDocument, seq: u64) -> Self {
        let acts = |injection: &&InjectionDocument| injection.ordered_at.is_some() && !injection.state.is_terminal();
        Self {
            at: Instant::now(),
            seq,
            summary: RunSummary::from(run),
            injections: run.injections.iter().filter(acts).cloned().collect(),
        }
    }
}

impl Glances {
    pub(crate) fn get(&self, run: &RunId, last_seq: u64) -> Option<Glance> {
        let glances = self.lock();
        let glance = glances.get(run)?;
        let good = glance.seq == last_seq || glance.at.elapsed() < FRESH;
        good.then(|| glance.clone())
    }

    pub(crate) fn put(&self, glance: Glance) {
        let mut glances = self.lock();
        if glances.len() >= REMEMBERED {
            glances.retain(|_, glance| glance.at.elapsed() < FRESH);
        }
        if glances.len() < REMEMBERED {
            glances.insert(glance.summary.id.clone(), glance);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Glance>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
