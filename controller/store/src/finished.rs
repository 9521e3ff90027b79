//! Finished runs that speak for a service, found by an index and never by reading all of them. Rows are a projection: events stay the truth.

use proto_model::finished::FinishedRun;
use proto_model::history::{ListedRun, Moment, Places, RunMonth, Slice, Tally};
use proto_model::id::RunId;
use proto_model::time::Timestamp;
use proto_model::verdict::Verdict;

use crate::records::StoreError;

/// The part of a store that levels and pages need; part of the same contract. It says what rows say: bring outdated ones up to date first.
pub trait Finished {
    /// Inserts or replaces what is known of finished runs, each with the last event that it covers. An older one never replaces a newer.
    /// With nothing, the run is passed over: it has no beginning.
    fn keep_all(&mut self, known: &[(RunId, u64, Option<FinishedRun>)]) -> Result<(), StoreError>;
    fn keep_finished(&mut self, run: &RunId, seq: u64, known: Option<&FinishedRun>) -> Result<(), StoreError> {
        self.keep_all(&[(run.clone(), seq, known.cloned())])
    }
    /// Finished runs of which nothing is kept that covers their last event, oldest first.
    fn outdated(&mut self, limit: u32) -> Result<Vec<RunId>, StoreError>;
    /// Those that come before the moment, newest first.
    fn newest(&mut self, service: &str, slice: &Slice, before: &Moment, limit: u32) -> Result<Vec<FinishedRun>, StoreError>;
    /// Those that come after the moment, oldest first.
    fn oldest(&mut self, service: &str, slice: &Slice, after: &Moment, limit: u32) -> Result<Vec<FinishedRun>, StoreError>;
    /// Where such runs were, in the order of names.
    fn environments(&mut self, service: &str, of: &Places) -> Result<Vec<String>, StoreError>;
    /// All that speak for the service and ended by then, counted.
    fn tally(&mut self, service: &str, until: Timestamp) -> Result<Vec<Tally>, StoreError>;
    /// The months in which the service has or had runs, the newest first.
    fn months(&mut self, service: &str) -> Result<Vec<RunMonth>, StoreError>;
    /// Keeps what was made of months; not of one of which a run has changed since it was asked for.
    fn keep_months(&mut self, service: &str, made: &[RunMonth]) -> Result<(), StoreError>;
    /// The month's runs that come before the moment, newest first.
    fn runs_of_month(&mut self, service: &str, month: &RunMonth, before: &Moment, limit: u32) -> Result<Vec<ListedRun>, StoreError>;
    /// All that have a verdict, of every service and of none.
    fn judged(&mut self) -> Result<u64, StoreError>;
}

/// What a run is found by; nothing of one that speaks for no service.
pub(crate) struct Keys {
    pub ended_at: Timestamp,
    pub verdict: Verdict,
    pub passed: bool,
    pub decided: bool,
    pub production: bool,
    pub shown: bool,
}

impl Keys {
    pub fn of(known: &FinishedRun) -> Option<Self> {
        let (_, verdict, ended_at) = known.speaks()?;
        let production = known.worth.production;
        Some(Self {
            ended_at,
            verdict,
            passed: known.is_no_pass().is_none(),
            decided: known.decided(),
            production,
            shown: production && known.shows_no_production().is_none(),
        })
    }
}
