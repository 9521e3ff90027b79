//! The finished runs that levels are computed from: rows of the store, and never their events. Outdated rows are read anew first.

use controller_evidence::{History, Shown, select};
use controller_store::{Store, StoreError};
use proto_model::finished::FinishedRun;
use proto_model::history::{Moment, Places, Slice};
use proto_model::service::Service;
use proto_model::time::Timestamp;

use crate::error::ApiResult;
use crate::service::Api;

/// Rows of one look at the store: others wait for it.
const PAGE: u32 = 500;

/// The store as the history that evidence asks.
struct Stored<'a>(&'a mut dyn Store);

impl History for Stored<'_> {
    type Error = StoreError;

    fn newest(&mut self, service: &str, slice: &Slice, before: &Moment, limit: u32) -> Result<Vec<FinishedRun>, StoreError> {
        self.0.newest(service, slice, before, limit)
    }

    fn oldest(&mut self, service: &str, slice: &Slice, after: &Moment, limit: u32) -> Result<Vec<FinishedRun>, StoreError> {
        self.0.oldest(service, slice, after, limit)
    }

    fn environments(&mut self, service: &str, of: &Places) -> Result<Vec<String>, StoreError> {
        self.0.environments(service, of)
    }
}

impl Api {
    /// Brings rows up to date that are not: of a run that has just ended, and of many after an update of the program.
    pub(crate) async fn read_outdated(&self) -> ApiResult<()> {
        self.0.runs.rebuild_summaries().await?;
        Ok(())
    }

    /// What the service's level is computed from.
    pub(crate) async fn selected(&self, service: &Service, now: Timestamp) -> ApiResult<Vec<FinishedRun>> {
        let service = service.clone();
        let selected = self.0.store.call(move |store| select(&service, &mut Stored(store), now));
        Ok(selected.await?)
    }

    /// Every run of these services, and how many judged runs there are beside them.
    pub(crate) async fn all_runs(&self, services: &[Shown]) -> ApiResult<(Vec<FinishedRun>, usize)> {
        self.read_outdated().await?;
        let mut runs = Vec::new();
        for shown in services {
            let mut before = Moment::end_of(Timestamp(i64::MAX));
            loop {
                let (service, from) = (shown.service.name.clone(), before.clone());
                let page = self
                    .0
                    .store
                    .call(move |store| store.newest(&service, &Slice::All, &from, PAGE))
                    .await?;
                let Some((_, _, ended_at)) = page.last().and_then(FinishedRun::speaks) else {
                    break;
                };
                before = page.last().map_or(before, |last| Moment::of(&last.summary.id, ended_at));
                runs.extend(page);
            }
        }
        let judged = self.0.store.call(|store| store.judged()).await?;
        let others = usize::try_from(judged).unwrap_or(usize::MAX).saturating_sub(runs.len());
        Ok((runs, others))
    }
}

#[cfg(test)]
mod tests;
