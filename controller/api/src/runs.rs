//! Runs as operators see them: lists, one whole, its events, live, its report; and stopping one.

use std::collections::BTreeSet;

use controller_conductor::{StopOutcome, StopTarget};
use controller_report::{fold, html, json, junit, markdown};
use controller_store::{RunPage, StoreError};
use proto_model::document::RunDocument;
use proto_model::event::Event;
use proto_model::id::{InjectionId, RunId};
use proto_model::reading::Milestone;
use proto_model::summary::RunSummary;
use proto_wire::v1::runs_server::Runs;
use proto_wire::v1::{Document, Documents, ReportReply, ReportRequest, RunRef, RunsListRequest, StopReply, StopRequest, WatchRequest};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

use crate::error::{ApiError, ApiResult};
use crate::glances::Glance;
use crate::service::{Api, caller, document};

/// Runs in a list when the caller names no number.
const DEFAULT_LIST: u32 = 50;
const MAX_LIST: u32 = 1_000;
/// Characters of a run's id that name it.
const SHORTEST_PREFIX: usize = 6;
/// Events a slow watcher may lag behind before it is caught up from the store.
const WATCH_BUFFER: usize = 64;

#[async_trait]
impl Runs for Api {
    async fn list(&self, request: Request<RunsListRequest>) -> Result<Response<Documents>, Status> {
        let wish = request.into_inner();
        let limit = if wish.limit == 0 { DEFAULT_LIST } else { wish.limit.min(MAX_LIST) };
        let pages = self
            .0
            .store
            .call(move |store| store.run_pages(limit, wish.active_only))
            .await
            .map_err(ApiError::from)?;
        let mut items = Vec::with_capacity(pages.len());
        for page in pages {
            items.push(document("RunSummary", &self.summary(page).await?)?);
        }
        Ok(Response::new(Documents { items }))
    }

    async fn show(&self, request: Request<RunRef>) -> Result<Response<Document>, Status> {
        let run = self.run(&request.into_inner().run).await?;
        Ok(Response::new(Document {
            json: document("Run", &self.folded(&run).await?)?,
        }))
    }

    async fn events(&self, request: Request<RunRef>) -> Result<Response<Documents>, Status> {
        let run = self.run(&request.into_inner().run).await?;
        let events = self
            .0
            .store
            .call(move |store| store.run_events(&run, 1))
            .await
            .map_err(ApiError::from)?;
        let items = events.iter().map(|event| document("Event", event)).collect::<Result<_, _>>()?;
        Ok(Response::new(Documents { items }))
    }

    type WatchStream = ReceiverStream<Result<Document, Status>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let wish = request.into_inner();
        let run = self.run(&wish.run).await?;
        let (sender, receiver) = mpsc::channel(WATCH_BUFFER);
        let live = self.0.runs.watch();
        let api = self.clone();
        tokio::spawn(async move { api.follow(run, wish.from_seq.max(1), live, sender).await });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        let wish = request.into_inner();
        let run = self.run(&wish.run).await?;
        let id = run.clone();
        let events = self
            .0
            .store
            .call(move |store| store.run_events(&id, 1))
            .await
            .map_err(ApiError::from)?;
        let (text, media_type, ending) = match wish.format.as_str() {
            "" | "markdown" => (markdown(&events), "text/markdown", "md"),
            "json" => (json(&events), "application/json", "json"),
            "html" => (html(&events, None), "text/html", "html"),
            "junit" => (junit(&events), "application/xml", "xml"),
            other => {
                let message = format!("no report format {other:?}; allowed: markdown, json, html, junit");
                return Err(ApiError::new("usage", message).into());
            }
        };
        let path = self.write_report(&run, ending, text.clone()).await?;
        Ok(Response::new(ReportReply {
            text,
            media_type: media_type.to_owned(),
            path,
        }))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let target = self.stop_target(&wish.target).await?;
        let reason = if wish.reason.is_empty() {
            format!("by {}", caller.name)
        } else {
            wish.reason
        };
        // A stop waits for no record.
        self.audit_late(&caller, "Runs/Stop", &wish.target);
        let of_run = match &target {
            StopTarget::Run(run) => run.to_string(),
            StopTarget::Injection(_) => String::new(),
        };
        match self.0.runs.stop(target, &caller.name, &reason).await {
            Ok(answer) => Ok(Response::new(StopReply {
                run: answer.run.to_string(),
                answer: answer.outcome.as_str().to_owned(),
                undone: answer.undone,
            })),
            // It was delivered; only what became of it cannot be read.
            Err(error) if error.code == "store" => {
                tracing::error!(
                    error = error.message,
                    target = wish.target,
                    "stopped, and the record cannot be read"
                );
                Ok(Response::new(StopReply {
                    run: of_run,
                    answer: StopOutcome::Stopping.as_str().to_owned(),
                    undone: 0,
                }))
            }
            Err(error) => Err(ApiError::from(error).into()),
        }
    }
}

impl Api {
    async fn run(&self, text: &str) -> ApiResult<RunId> {
        let text = text.to_owned();
        Ok(self.0.store.call(move |store| store.find_run(&text)).await?)
    }

    /// The one that is kept; a run that goes on is looked through at most once a while, however many ask.
    pub(crate) async fn summary(&self, page: RunPage) -> ApiResult<RunSummary> {
        if let Some(summary) = page.summary {
            return Ok(summary);
        }
        Ok(self.glance(&page).await?.summary)
    }

    pub(crate) async fn glance(&self, page: &RunPage) -> ApiResult<Glance> {
        let run = &page.row.id;
        if let Some(glance) = self.0.glances.get(run, page.last_seq) {
            return Ok(glance);
        }
        let document = self.0.runs.looked_through(run).await?;
        let document = document.ok_or_else(|| ApiError::new("store", format!("run {run} has no beginning in the store")))?;
        let glance = Glance::of(&document, page.last_seq);
        if !page.row.finished {
            self.0.glances.put(glance.clone());
        }
        Ok(glance)
    }

    async fn folded(&self, run: &RunId) -> ApiResult<RunDocument> {
        let id = run.clone();
        let events = self.0.store.call(move |store| store.run_events(&id, 1)).await?;
        fold(&events).ok_or_else(|| ApiError::new("store", format!("run {run} has no beginning in the store")))
    }

    /// A run by id, prefix or @last; failing that, an injection by its whole id.
    /// What is going on is known without the store.
    fn active_target(&self, text: &str) -> Option<StopTarget> {
        let leased = self.0.runs.leased();
        if let Some(active) = leased.iter().find(|active| active.injection.id.as_str() == text) {
            return Some(StopTarget::Injection(active.injection.id.clone()));
        }
        let named = |run: &RunId| run.as_str() == text || (text.len() >= SHORTEST_PREFIX && run.as_str().starts_with(text));
        let runs: BTreeSet<&RunId> = leased.iter().map(|active| &active.run).filter(|run| named(run)).collect();
        match runs.first() {
            Some(run) if runs.len() == 1 => Some(StopTarget::Run((*run).clone())),
            _ => None,
        }
    }

    async fn stop_target(&self, text: &str) -> ApiResult<StopTarget> {
        // A whole id, or the beginning of one: another run that begins alike is over, or would be named by more.
        if let Some(active) = self.active_target(text) {
            return Ok(active);
        }
        let asked = text.to_owned();
        match self.0.store.call(move |store| store.find_run(&asked)).await {
            Ok(run) => Ok(StopTarget::Run(run)),
            Err(StoreError::NotFound { .. }) => match InjectionId::parse(text) {
                Ok(injection) => Ok(StopTarget::Injection(injection)),
                Err(_) => Err(ApiError::new(
                    "not_found",
                    format!("no run or injection {text:?}; see `fracas runs list --active`"),
                )),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Written beside the store so that a path can be handed on.
    async fn write_report(&self, run: &RunId, ending: &str, text: String) -> ApiResult<String> {
        let folder = self.0.reports.clone();
        let path = folder.join(format!("{run}.{ending}"));
        let shown = path.display().to_string();
        let write = move || std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text));
        let written = tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other).flatten();
        written.map_err(|e| ApiError::new("store", format!("write the report {shown}: {e}")))?;
        Ok(shown)
    }

    /// Replays from the store, then follows; a watcher that lagged is caught up from the store again.
    async fn follow(
        &self,
        run: RunId,
        from_seq: u64,
        mut live: broadcast::Receiver<Event>,
        sender: mpsc::Sender<Result<Document, Status>>,
    ) {
        let mut next = from_seq;
        let id = run.clone();
        let mut over = match self.0.store.call(move |store| store.run_events(&id, 1)).await {
            Ok(events) => events.iter().any(is_last),
            Err(error) => return drop(sender.send(Err(ApiError::from(error).into())).await),
        };
        loop {
            match self.catch_up(&run, &mut next, &sender).await {
                Ok(finished) => over |= finished,
                Err(status) => return drop(sender.send(Err(status)).await),
            }
            if over || !news_of(&run, &mut live, &sender).await {
                return;
            }
        }
    }

    /// Sends what is stored and not yet sent; true when the watch is over.
    async fn catch_up(&self, run: &RunId, next: &mut u64, sender: &mpsc::Sender<Result<Document, Status>>) -> Result<bool, Status> {
        let (run, from) = (run.clone(), *next);
        let events = self
            .0
            .store
            .call(move |store| store.run_events(&run, from))
            .await
            .map_err(ApiError::from)?;
        let mut over = false;
        for event in events {
            *next = event.seq + 1;
            over |= is_last(&event);
            let json = document("Event", &event)?;
            if sender.send(Ok(Document { json })).await.is_err() {
                return Ok(true);
            }
        }
        Ok(over)
    }
}

/// Waits until there is something new of the run; false when nobody listens or nothing can come any more.
async fn news_of(run: &RunId, live: &mut broadcast::Receiver<Event>, sender: &mpsc::Sender<Result<Document, Status>>) -> bool {
    loop {
        let heard = tokio::select! {
            heard = live.recv() => heard,
            () = sender.closed() => return false,
        };
        match heard {
            Ok(event) if &event.run_id != run => {}
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return true,
            Err(broadcast::error::RecvError::Closed) => return false,
        }
    }
}

/// Nothing but amendments follows a run's finish.
fn is_last(event: &Event) -> bool {
    event.body.milestone() == Some(Milestone::Finished)
}
