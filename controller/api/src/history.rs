//! The finished runs that levels are computed from: rows of the store, and never their events. Outdated rows are read anew first.

use controller_evidence::{History, View, select, select_shown};
use controller_store::{Store, StoreError};
use proto_model::finished::FinishedRun;
use proto_model::history::{ListedRun, Moment, Places, RunMonth, Slice};
use proto_model::service::Service;
use proto_model::time::Timestamp;

use crate::error::ApiResult;
use crate::service::Api;

/// Rows of one look at the store: others wait for it.
const PAGE: u32 = 500;
/// After every run.
const ALL: Timestamp = Timestamp(i64::MAX);

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

    /// What the service's page says of its runs, apart from their months.
    pub(crate) async fn view(&self, service: &Service) -> ApiResult<View> {
        let (of, name) = (service.clone(), service.name.clone());
        let view = self.0.store.call(move |store| {
            let tally = store.tally(&name, ALL)?;
            let runs = select_shown(&of, &mut Stored(store), ALL)?;
            Ok::<_, StoreError>(View {
                runs,
                tally,
                months: Vec::new(),
            })
        });
        Ok(view.await?)
    }

    /// The month's runs before a moment, the newest first; as many as one look at the store may pass.
    pub(crate) async fn month_before(&self, service: &str, month: &RunMonth, before: &Moment) -> ApiResult<Vec<ListedRun>> {
        let (service, month, before) = (service.to_owned(), month.clone(), before.clone());
        let page = self.0.store.call(move |store| store.runs_of_month(&service, &month, &before, PAGE));
        Ok(page.await?)
    }

    /// What the service's level is computed from.
    pub(crate) async fn selected(&self, service: &Service, now: Timestamp) -> ApiResult<Vec<FinishedRun>> {
        let service = service.clone();
        let selected = self.0.store.call(move |store| select(&service, &mut Stored(store), now));
        Ok(selected.await?)
    }
}

#[cfg(test)]
pub(crate) mod tests;
