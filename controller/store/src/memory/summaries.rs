//! Summaries of the store that forgets; held to the same contract as the real ones.

use std::collections::BTreeMap;

use proto_model::id::RunId;
use proto_model::summary::RunSummary;

use super::held::{MemoryStore, Run};
use crate::fact::no_run;
use crate::records::StoreError;
use crate::summaries::{DecidedTest, RunPage, Summaries, decided};

impl Summaries for MemoryStore {
    fn run_pages(&mut self, limit: u32, unfinished_only: bool) -> Result<Vec<RunPage>, StoreError> {
        let wanted = self.runs.iter().rev().filter(|run| !(unfinished_only && run.row.finished));
        Ok(wanted.take(limit as usize).map(|run| self.page(run)).collect())
    }

    fn finished_before(&mut self, run: Option<&RunId>, limit: u32) -> Result<Vec<RunPage>, StoreError> {
        let end = match run {
            Some(run) => self.run_at(run).ok_or_else(|| no_run(run.as_str()))?,
            None => self.runs.len(),
        };
        let finished = self.runs[..end].iter().rev().filter(|run| run.row.finished);
        Ok(finished.take(limit as usize).map(|run| self.page(run)).collect())
    }

    fn summary_of(&mut self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        Ok(self.summaries.get(run).map(|(_, known)| known.summary.clone()))
    }

    fn runs_owing_proof(&mut self, unsaid: u32) -> Result<Vec<RunId>, StoreError> {
        let finished = || self.runs.iter().rev().filter(|run| run.row.finished).map(|run| &run.row.id);
        let says_so = finished().filter(|run| self.summaries.get(run).is_some_and(|(_, known)| known.summary.hosts_unclean > 0));
        let without = finished()
            .filter(|run| !self.summaries.contains_key(run) && !self.passed_over.contains_key(run))
            .take(unsaid as usize);
        Ok(says_so.chain(without).cloned().collect())
    }

    fn last_decided(&mut self) -> Result<Vec<DecidedTest>, StoreError> {
        let mut newest: BTreeMap<(Option<String>, String), DecidedTest> = BTreeMap::new();
        for summary in self.summaries.values().map(|(_, known)| &known.summary) {
            let Some(decided) = decided(summary) else { continue };
            let test = (summary.service.clone(), summary.name.clone());
            if newest.get(&test).is_none_or(|known| known.decided.at <= decided.at) {
                let (service, experiment) = test.clone();
                newest.insert(
                    test,
                    DecidedTest {
                        service,
                        experiment,
                        decided,
                    },
                );
            }
        }
        Ok(newest.into_values().collect())
    }
}

impl MemoryStore {
    fn page(&self, run: &Run) -> RunPage {
        let last_seq = run.events.len() as u64;
        let kept = self.summaries.get(&run.row.id).filter(|(seq, _)| *seq == last_seq);
        RunPage {
            row: run.row.clone(),
            last_seq,
            summary: kept.map(|(_, known)| known.summary.clone()),
        }
    }
}
