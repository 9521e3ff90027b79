//! A site on its way to its reader, month by month: no more than one month of a service's runs is held at a time, and of a month that
//! the reader has already nothing is made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use controller_evidence::{MonthLine, Shown, Site, View, maker, month, month_of, run_page};
use controller_report::html;
use proto_model::event::Event;
use proto_model::history::{ListedRun, Moment, RunMonth};
use proto_model::id::RunId;
use proto_wire::v1::{SiteFile, SiteRequest};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::error::{ApiError, ApiResult};
use crate::service::Api;

/// Runs whose events are read at a look, while the pages of those before are made.
const READ_AHEAD: usize = 16;
/// How long a reader may take nothing before it counts as gone.
pub(crate) const READER_WITHIN: Duration = Duration::from_secs(60);

pub(crate) type Reader = mpsc::Sender<Result<SiteFile, Status>>;
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

/// To whom a site goes, and what of it is there already.
pub(crate) struct Delivery {
    reader: Reader,
    /// Data of months by path, with the digest of each.
    known: BTreeMap<String, String>,
    /// The reader asks for the pages of runs by itself.
    apart: bool,
}

impl Delivery {
    /// Files that another version made are made anew.
    pub fn of(request: SiteRequest, reader: Reader) -> Self {
        let same = request.maker == maker();
        let known = request.known.into_iter().filter(|_| same).map(|month| (month.path, month.digest));
        Self {
            reader,
            known: known.collect(),
            apart: request.apart,
        }
    }

    fn has(&self, line: &MonthLine) -> bool {
        self.known.get(&line.path) == Some(&line.digest)
    }
}

impl Api {
    /// What the site says of these services; files of months and pages of runs go to the reader, if there is one.
    pub(crate) async fn parts(&self, services: &[Shown], to: Option<&Delivery>) -> ApiResult<Parts> {
        self.read_outdated().await?;
        let mut views = Vec::with_capacity(services.len());
        for shown in services {
            let mut view = self.view(&shown.service).await?;
            view.months = self.months(&shown.service.name, to).await?;
            views.push(view);
        }
        let judged = self.0.store.call(|store| store.judged()).await?;
        Ok(Parts { views, judged })
    }

    /// All that the reader lacks of a site, in its last message the digest of the whole.
    pub(crate) async fn send_site(&self, services: &[Shown], to: &Delivery) -> ApiResult<()> {
        let parts = self.parts(services, Some(to)).await?;
        let site = parts.site(services);
        for (path, text) in site.files() {
            send(&to.reader, path, text, 0).await?;
        }
        let last = SiteFile {
            digest: site.digest(),
            maker: maker(),
            ..SiteFile::default()
        };
        pass(&to.reader, Ok(last), READER_WITHIN).await
    }

    async fn months(&self, service: &str, to: Option<&Delivery>) -> ApiResult<Vec<MonthLine>> {
        let name = service.to_owned();
        let months = self.0.store.call(move |store| store.months(&name)).await?;
        let (mut lines, mut made) = (Vec::with_capacity(months.len()), Vec::new());
        for mut month in months {
            let kept = month.made.as_deref().and_then(MonthLine::kept);
            if let Some(line) = kept.filter(|line| to.is_none_or(|to| to.has(line))) {
                lines.push(line);
                continue;
            }
            let runs = self.runs_of_month(service, &month).await?;
            if runs.is_empty() {
                continue;
            }
            let line = self.month(service, &month, &runs, to).await?;
            // What is kept of it already is the same.
            if month.made.replace(line.keep()) != month.made {
                made.push(month);
            }
            lines.push(line);
        }
        if !made.is_empty() {
            let name = service.to_owned();
            self.0.store.call(move |store| store.keep_months(&name, &made)).await?;
        }
        Ok(lines)
    }

    async fn runs_of_month(&self, service: &str, month: &RunMonth) -> ApiResult<Vec<ListedRun>> {
        let (mut runs, mut before) = (Vec::new(), Moment::start_of(month.until));
        loop {
            let page = self.month_before(service, month, &before).await?;
            let Some(last) = page.last().and_then(moment) else {
                return Ok(runs);
            };
            before = last;
            runs.extend(page);
        }
    }

    async fn month(&self, service: &str, of: &RunMonth, runs: &[ListedRun], to: Option<&Delivery>) -> ApiResult<MonthLine> {
        let month = month(service, &month_of(of.since), runs);
        let Some(to) = to.filter(|to| !to.has(&month.line)) else {
            return Ok(month.line);
        };
        let (path, text) = month.page(runs);
        send(&to.reader, path, text, 0).await?;
        send(&to.reader, month.line.path.clone(), month.data, 0).await?;
        if !to.apart {
            let ids = runs.iter().map(|listed| listed.known.summary.id.clone());
            self.send_pages(ids.collect(), &to.reader).await?;
        }
        Ok(month.line)
    }

    /// The page of each of these runs, with the number of events that it tells of; nothing of one that has no service.
    pub(crate) async fn send_pages(&self, ids: Arc<[RunId]>, reader: &Reader) -> ApiResult<()> {
        let mut reading = self.read_ahead(&ids, 0);
        for from in (0..ids.len()).step_by(READ_AHEAD) {
            let next = self.read_ahead(&ids, from + READ_AHEAD);
            let events = std::mem::replace(&mut reading, next).await;
            let events = events.map_err(|_| ApiError::new("store", "reading runs for their pages broke off"))??;
            for events in events {
                let Some(service) = service_of(&events) else { continue };
                let last = &events[events.len() - 1];
                let (path, up) = run_page(service, &last.run_id);
                send(reader, path, html(&events, Some(up)), last.seq).await?;
            }
        }
        Ok(())
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

fn service_of(events: &[Event]) -> Option<&str> {
    events.first()?.body.accepted()?.plan.service.as_deref()
}

fn moment(listed: &ListedRun) -> Option<Moment> {
    let run = &listed.known;
    run.speaks().map(|(_, _, ended_at)| Moment::of(&run.summary.id, ended_at))
}

fn gone<T>(_: T) -> ApiError {
    ApiError::new("refused", "the reader of the site is gone")
}

async fn send(reader: &Reader, path: String, text: String, events: u64) -> ApiResult<()> {
    let file = SiteFile {
        path,
        text,
        events,
        ..SiteFile::default()
    };
    pass(reader, Ok(file), READER_WITHIN).await
}

/// A reader that stays connected and takes nothing must not keep a site in memory for ever.
pub(crate) async fn pass(reader: &Reader, next: Result<SiteFile, Status>, within: Duration) -> ApiResult<()> {
    let passed = tokio::time::timeout(within, reader.send(next)).await;
    let stalled = |_| ApiError::new("refused", format!("the reader of the site took nothing for {within:?}"));
    passed.map_err(stalled)?.map_err(gone)
}

#[cfg(test)]
mod tests;
