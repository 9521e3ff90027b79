//! Finished runs of the store that forgets: all of them are looked at each time, which is what an index must answer like.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::finished::FinishedRun;
use proto_model::history::{ListedRun, Moment, Places, RunMonth, Slice, Tally};
use proto_model::id::RunId;
use proto_model::time::Timestamp;

use super::held::MemoryStore;
use crate::fact::no_run;
use crate::finished::{Finished, Keys};
use crate::records::StoreError;

impl Finished for MemoryStore {
    fn keep_all(&mut self, known: &[(RunId, u64, Option<FinishedRun>)]) -> Result<(), StoreError> {
        if let Some((run, ..)) = known.iter().find(|(run, ..)| self.run_at(run).is_none()) {
            return Err(no_run(run.as_str()));
        }
        for (run, seq, known) in known {
            match known {
                Some(known) if self.summaries.get(run).is_none_or(|(kept, _)| kept <= seq) => {
                    let before = self.summaries.insert(run.clone(), (*seq, known.clone()));
                    before
                        .iter()
                        .map(|(_, known)| known)
                        .chain([known])
                        .for_each(|known| self.change_month(known));
                }
                Some(_) => {}
                None => drop(self.passed_over.insert(run.clone(), *seq)),
            }
        }
        Ok(())
    }

    fn outdated(&mut self, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let outdated = self.runs.iter().filter(|run| {
            let (id, last) = (&run.row.id, run.events.len() as u64);
            let kept = self.summaries.get(id).map(|(seq, _)| *seq);
            run.row.finished && kept != Some(last) && self.passed_over.get(id) != Some(&last)
        });
        Ok(outdated.take(limit as usize).map(|run| run.row.id.clone()).collect())
    }

    fn newest(&mut self, service: &str, slice: &Slice, before: &Moment, limit: u32) -> Result<Vec<FinishedRun>, StoreError> {
        let found = self.of_service(service, slice);
        let before = found.into_iter().rev().filter(|(moment, _)| moment < before);
        Ok(before.take(limit as usize).map(|(_, run)| run.clone()).collect())
    }

    fn oldest(&mut self, service: &str, slice: &Slice, after: &Moment, limit: u32) -> Result<Vec<FinishedRun>, StoreError> {
        let found = self.of_service(service, slice);
        let after = found.into_iter().filter(|(moment, _)| moment > after);
        Ok(after.take(limit as usize).map(|(_, run)| run.clone()).collect())
    }

    fn environments(&mut self, service: &str, of: &Places) -> Result<Vec<String>, StoreError> {
        let all = self.of_service(service, &Slice::All).into_values();
        let wanted = all.filter(|run| match of {
            Places::All => true,
            Places::Production => run.worth.production,
            Places::PassedElsewhere { test } => run.summary.name == *test && !run.worth.production && run.is_no_pass().is_none(),
        });
        let names: BTreeSet<String> = wanted.map(|run| run.summary.environment.clone()).collect();
        Ok(names.into_iter().filter(|name| !name.is_empty()).collect())
    }

    fn tally(&mut self, service: &str, until: Timestamp) -> Result<Vec<Tally>, StoreError> {
        let mut counts: BTreeMap<(String, String, bool), u64> = BTreeMap::new();
        for (moment, run) in self.of_service(service, &Slice::All) {
            if let (true, Some(verdict)) = (moment.ended_at <= until, run.summary.verdict) {
                let key = (run.summary.environment.clone(), verdict.as_str().to_owned(), run.decided());
                *counts.entry(key).or_insert(0) += 1;
            }
        }
        let tally = counts.into_iter().map(|((environment, verdict, decided), runs)| Tally {
            environment,
            verdict,
            decided,
            runs,
        });
        Ok(tally.collect())
    }

    fn months(&mut self, service: &str) -> Result<Vec<RunMonth>, StoreError> {
        let of_it = self.months.iter().rev().filter(|((of, _), _)| of == service);
        Ok(of_it.map(|(_, month)| month.clone()).collect())
    }

    fn keep_months(&mut self, service: &str, made: &[RunMonth]) -> Result<(), StoreError> {
        for month in made {
            let known = self.months.get_mut(&(service.to_owned(), month.since));
            if let Some(known) = known.filter(|known| known.version == month.version) {
                known.made.clone_from(&month.made);
            }
        }
        Ok(())
    }

    fn runs_of_month(&mut self, service: &str, month: &RunMonth, before: &Moment, limit: u32) -> Result<Vec<ListedRun>, StoreError> {
        let end = before.clone().min(Moment::start_of(month.until));
        let found = self.of_service(service, &Slice::All).into_iter().rev();
        let of_it = found.filter(|(moment, _)| *moment < end && moment.ended_at >= month.since);
        let listed = of_it.map(|(_, run)| ListedRun {
            events: self.summaries[&run.summary.id].0,
            known: run.clone(),
        });
        Ok(listed.take(limit as usize).collect())
    }

    fn judged(&mut self) -> Result<u64, StoreError> {
        Ok(self.summaries.len() as u64)
    }
}

impl MemoryStore {
    fn change_month(&mut self, run: &FinishedRun) {
        let (Some(keys), Some(service)) = (Keys::of(run), &run.summary.service) else {
            return;
        };
        let since = start_of_month(keys.ended_at);
        let month = self.months.entry((service.clone(), since)).or_insert_with(|| RunMonth {
            since,
            until: start_of_month(since.plus_ms(LONGER_THAN_A_MONTH_MS)),
            version: 0,
            made: None,
        });
        month.version += 1;
        month.made = None;
    }

    /// Oldest first.
    fn of_service(&self, service: &str, slice: &Slice) -> BTreeMap<Moment, &FinishedRun> {
        let all = self.summaries.values().map(|(_, run)| run);
        let wanted = all.filter_map(|run| {
            let keys = Keys::of(run).filter(|keys| run.summary.service.as_deref() == Some(service) && is_in(slice, run, keys))?;
            Some((Moment::of(&run.summary.id, keys.ended_at), run))
        });
        wanted.collect()
    }
}

const LONGER_THAN_A_MONTH_MS: u64 = 32 * 24 * 3_600_000;

fn start_of_month(at: Timestamp) -> Timestamp {
    let month: String = at.to_string().chars().take(7).collect();
    Timestamp::parse(&format!("{month}-01T00:00:00.000Z")).unwrap_or(at)
}

fn is_in(slice: &Slice, run: &FinishedRun, keys: &Keys) -> bool {
    let (name, place) = (run.summary.name.as_str(), run.summary.environment.as_str());
    match slice {
        Slice::All => true,
        Slice::In { environment } => place == environment,
        Slice::Passed { test } => name == test && keys.passed,
        Slice::NotPassed { test } => name == test && !keys.passed,
        Slice::Decided { test } => name == test && keys.decided,
        Slice::PassedElsewhere { test, environment } => name == test && place == environment && keys.passed && !keys.production,
        Slice::Production { environment } => place == environment && keys.production,
        Slice::ShownInProduction { environment } => place == environment && keys.shown,
    }
}
