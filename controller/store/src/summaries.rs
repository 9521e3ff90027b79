//! Summaries of runs, kept so that a list costs the same however long its runs' histories are. Events stay the truth: any may be made again.

use proto_model::id::RunId;
use proto_model::summary::RunSummary;
use serde::{Deserialize, Serialize};

use crate::records::{RunRow, StoreError};
use proto_model::schedule::Decided;

/// A run in a list, with its summary where one is kept that covers all of its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPage {
    pub row: RunRow,
    pub last_seq: u64,
    pub summary: Option<RunSummary>,
}

/// The newest decided run of one experiment of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedTest {
    pub service: Option<String>,
    pub experiment: String,
    pub decided: Decided,
}

/// The part of a store that lists need; part of the same contract.
pub trait Summaries {
    /// Newest first.
    fn run_pages(&mut self, limit: u32, unfinished_only: bool) -> Result<Vec<RunPage>, StoreError>;
    /// Finished runs, newest first: those that were made before this one, or the newest without one. Page by page it passes every
    /// run that is finished when the first page is read.
    fn finished_before(&mut self, run: Option<&RunId>, limit: u32) -> Result<Vec<RunPage>, StoreError>;
    /// The newest kept, whether or not it covers what came later: the verdict in it is final.
    fn summary_of(&mut self, run: &RunId) -> Result<Option<RunSummary>, StoreError>;
    /// Finished runs that may lack a host's proof: those whose summary says so, and of those without one the newest `unsaid`.
    fn runs_owing_proof(&mut self, unsaid: u32) -> Result<Vec<RunId>, StoreError>;
    /// Of every test, its newest run that passed or failed, of those that have a summary.
    fn last_decided(&mut self) -> Result<Vec<DecidedTest>, StoreError>;
}

/// The decision that a summary tells of, if it does.
pub(crate) fn decided(summary: &RunSummary) -> Option<Decided> {
    use proto_model::verdict::Verdict;
    let verdict = summary.verdict.filter(|v| matches!(v, Verdict::Passed | Verdict::Failed))?;
    Some(Decided {
        run: summary.id.clone(),
        verdict,
        at: summary.finished_at?,
    })
}
