//! A site on its way to its reader, month by month: no more than one month of a service's runs is held at a time.

use std::sync::Arc;
use std::time::Duration;

use controller_evidence::{MonthLine, Shown, Site, View, month, month_of, run_page};
use controller_report::html;
use proto_model::event::Event;
use proto_model::finished::FinishedRun;
use proto_model::history::Moment;
use proto_model::id::RunId;
use proto_wire::v1::SiteFile;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::error::{ApiError, ApiResult};
use crate::history::ALL;
use crate::service::Api;

/// Runs whose events are read at a look, while the pages of those before are made.
const READ_AHEAD: usize = 16;
/// How long a reader may take nothing before it counts as gone.
pub(crate) const READER_WITHIN: Duration = Duration::from_secs(60);

type Reader = mpsc::Sender<Result<SiteFile, Status>>;
type Events = JoinHandle<ApiResult<Vec<Vec<Event>>>>;

/// What a site is made of, apart from its months.
pub(crate) struct Parts {
    pub views: Vec<View>,
    /// Runs with a verdict, of these services or of none.
    pub judged: u64,
}

impl Parts {
    pub fn site<'a>(&'a self, services: &'a [Shown]) -> Site<'a> {
        Site::of(services, &self.views, self.judged)
    }
}

impl Api {
    /// Passes every run of these services; files of months and pages of runs go to the reader, if there is one.
    pub(crate) async fn parts(&self, services: &[Shown], reader: Option<&Reader>) -> ApiResult<Parts> {
        self.read_outdated().await?;
        let mut views = Vec::with_capacity(services.len());
        for shown in services {
            let mut view = self.view(&shown.service).await?;
            view.months = self.months(&shown.service.name, reader).await?;
            views.push(view);
        }
        let judged = self.0.store.call(|store| store.judged()).await?;
        Ok(Parts { views, judged })
    }

    /// All that there is of a site, in its last message the digest of the whole.
    pub(crate) async fn send_site(&self, services: &[Shown], reader: &Reader) -> ApiResult<()> {
        let parts = self.parts(services, Some(reader)).await?;
        let site = parts.site(services);
        for (path, text) in site.files() {
            send(reader, path, text).await?;
        }
        let last = SiteFile {
            digest: site.digest(),
            ..SiteFile::default()
        };
        pass(reader, Ok(last), READER_WITHIN).await
    }

    async fn months(&self, service: &str, reader: Option<&Reader>) -> ApiResult<Vec<MonthLine>> {
        let (mut lines, mut of_month) = (Vec::new(), Vec::<FinishedRun>::new());
        let (mut name, mut before) = (String::new(), Moment::end_of(ALL));
        loop {
            let page = self.runs_before(service, &before).await?;
            let Some(last) = page.last().and_then(moment) else { break };
            before = last;
            for run in page {
                let of = moment(&run).map(|at| month_of(at.ended_at)).unwrap_or_default();
                if of != name && !of_month.is_empty() {
                    lines.push(self.month(service, &name, &std::mem::take(&mut of_month), reader).await?);
                }
                name = of;
                of_month.push(run);
            }
        }
        if !of_month.is_empty() {
            lines.push(self.month(service, &name, &of_month, reader).await?);
        }
        Ok(lines)
    }

    async fn month(&self, service: &str, name: &str, runs: &[FinishedRun], reader: Option<&Reader>) -> ApiResult<MonthLine> {
        let month = month(service, name, runs);
        let Some(reader) = reader else { return Ok(month.line) };
        let (path, text) = month.page(runs);
        send(reader, path, text).await?;
        send(reader, month.line.path.clone(), month.data).await?;
        let ids: Arc<[RunId]> = runs.iter().map(|run| run.summary.id.clone()).collect();
        let mut reading = self.read_ahead(&ids, 0);
        for from in (0..ids.len()).step_by(READ_AHEAD) {
            let next = self.read_ahead(&ids, from + READ_AHEAD);
            let events = std::mem::replace(&mut reading, next).await;
            let events = events.map_err(|_| ApiError::new("store", "reading runs for their pages broke off"))??;
            for (run, events) in ids[from..].iter().zip(events) {
                let (path, up) = run_page(service, run);
                send(reader, path, html(&events, Some(up))).await?;
            }
        }
        Ok(month.line)
    }

    /// Reads the events of some runs, from this place on, while others are used.
    fn read_ahead(&self, ids: &Arc<[RunId]>, from: usize) -> Events {
        let (store, ids) = (self.0.store.clone(), Arc::clone(ids));
        tokio::spawn(async move {
            let read = store.call(move |store| {
                let some = ids.iter().skip(from).take(READ_AHEAD);
                some.map(|run| store.run_events(run, 1)).collect::<Result<Vec<_>, _>>()
            });
            Ok(read.await?)
        })
    }
}

fn moment(run: &FinishedRun) -> Option<Moment> {
    run.speaks().map(|(_, _, ended_at)| Moment::of(&run.summary.id, ended_at))
}

fn gone<T>(_: T) -> ApiError {
    ApiError::new("refused", "the reader of the site is gone")
}

async fn send(reader: &Reader, path: String, text: String) -> ApiResult<()> {
    let digest = String::new();
    pass(reader, Ok(SiteFile { path, text, digest }), READER_WITHIN).await
}

/// A reader that stays connected and takes nothing must not keep a site in memory for ever.
pub(crate) async fn pass(reader: &Reader, next: Result<SiteFile, Status>, within: Duration) -> ApiResult<()> {
    let passed = tokio::time::timeout(within, reader.send(next)).await;
    let stalled = |_| ApiError::new("refused", format!("the reader of the site took nothing for {within:?}"));
    passed.map_err(stalled)?.map_err(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (reader, mut taken) = mpsc::channel(1);
        let file = || Ok(SiteFile::default());
        let within = Duration::from_millis(20);
        pass(&reader, file(), within).await.unwrap();
        let error = pass(&reader, file(), within).await.unwrap_err();
        assert!(error.0.message.contains("took nothing"), "{}", error.0.message);
        taken.recv().await.unwrap().unwrap();
        pass(&reader, file(), within).await.unwrap();
        drop(taken);
        let error = pass(&reader, file(), within).await.unwrap_err();
        assert!(error.0.message.contains("is gone"), "{}", error.0.message);
    }
}
