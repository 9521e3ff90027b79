//! Reports that come when their run is not driven any more: which of them still count, and how many are refused.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use controller_report::RunState;
use proto_model::id::{HostName, InjectionId, RunId};
use proto_model::injection::AgentFact;

use crate::admissible::may_follow;

/// Judged runs that are remembered, so that a host which repeats itself does not have them read again and again.
const REMEMBERED: usize = 64;

/// What becomes of a late report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// It is news, and the run's record takes it.
    Counts,
    /// The host may forget it; the record stays as it is.
    Known,
    /// Not of this host, or not of this run.
    Foreign,
}

/// The injections of judged runs: the host of each, and whether its end is still unknown.
#[derive(Debug, Default)]
pub(crate) struct LateReports {
    runs: Mutex<BTreeMap<RunId, BTreeMap<InjectionId, Ended>>>,
    foreign: Mutex<BTreeMap<HostName, u64>>,
}

#[derive(Debug)]
struct Ended {
    host: HostName,
    open: bool,
}

impl LateReports {
    /// From what is remembered of the run; `None` when it has to be read first.
    pub fn remembered(&self, run: &RunId, host: &HostName, injection: &InjectionId, fact: &AgentFact) -> Option<Late> {
        let runs = self.lock();
        let injections = runs.get(run)?;
        Some(match injections.get(injection) {
            Some(ended) if &ended.host != host => Late::Foreign,
            // After the verdict an end that was not known yet completes the cleanup, and nothing else is news.
            Some(ended) if ended.open && fact.is_terminal() => Late::Counts,
            Some(_) => Late::Known,
            None => Late::Foreign,
        })
    }

    /// By the state of a run that was just read; a judged one is remembered.
    pub fn read(&self, state: &RunState, host: &HostName, injection: &InjectionId, fact: &AgentFact) -> Late {
        if state.judged.is_some() {
            self.remember(state);
            return self.remembered(&state.run, host, injection, fact).unwrap_or(Late::Known);
        }
        let measures = matches!(fact, AgentFact::Observed(_));
        match state.injection(injection) {
            Some(status) if &status.injection.host != host => Late::Foreign,
            // The run is taken up again soon, and reads from the record what came meanwhile.
            Some(status) if !measures && may_follow(status, fact) => Late::Counts,
            Some(_) => Late::Known,
            None => Late::Foreign,
        }
    }

    /// The end is on record.
    pub fn close(&self, run: &RunId, injection: &InjectionId) {
        if let Some(ended) = self.lock().get_mut(run).and_then(|injections| injections.get_mut(injection)) {
            ended.open = false;
        }
    }

    /// Counts what a host had no right to report. The count, when it is to be logged: at each power of two.
    pub fn count_foreign(&self, host: &HostName) -> Option<u64> {
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        let count = foreign.entry(host.clone()).or_default();
        *count += 1;
        count.is_power_of_two().then_some(*count)
    }

    fn remember(&self, state: &RunState) {
        let ended = |status: &controller_report::InjectionStatus| {
            let ended = Ended {
                host: status.injection.host.clone(),
                open: status.is_out(),
            };
            (status.injection.id.clone(), ended)
        };
        let mut runs = self.lock();
        if runs.len() >= REMEMBERED {
            runs.pop_first();
        }
        runs.insert(state.run.clone(), state.injections.iter().map(ended).collect());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, BTreeMap<InjectionId, Ended>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
