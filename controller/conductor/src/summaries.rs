//! Keeps the summary of a run when it is finished and when it is amended, and makes those that are missing. Nothing waits for it.

use std::collections::BTreeSet;

use controller_report::fold;
use controller_store::{StoreError, StoreHandle};
use proto_model::document::RunDocument;
use proto_model::id::RunId;
use proto_model::summary::RunSummary;

/// Runs without a summary that are looked up at a time.
const BATCH: u32 = 100;

/// Makes the summary of a finished run from its events and keeps it. False when the run is not finished or has no beginning.
async fn make(store: &StoreHandle, run: &RunId) -> Result<bool, StoreError> {
    Ok(looked_through(store, run).await?.is_some_and(|run| run.verdict.is_some()))
}

/// The run as its events tell it; of a finished one the summary is kept.
pub(crate) async fn looked_through(store: &StoreHandle, run: &RunId) -> Result<Option<RunDocument>, StoreError> {
    let id = run.clone();
    let events = store.call(move |store| store.run_events(&id, 1)).await?;
    let (Some(document), Some(last)) = (fold(&events), events.last()) else {
        return Ok(None);
    };
    if document.verdict.is_some() {
        let (run, seq, summary) = (run.clone(), last.seq, RunSummary::from(&document));
        store.call(move |store| store.keep_summary(&run, seq, &summary)).await?;
    }
    Ok(Some(document))
}

/// As `make`; a list makes it again when this fails.
pub(crate) async fn keep(store: &StoreHandle, run: &RunId) {
    if let Err(error) = make(store, run).await {
        tracing::warn!(%run, %error, "the run's summary was not kept; the next list makes it");
    }
}

/// Makes the summaries that are missing: of a store from before there were any, or after a crash. Returns how many.
pub(crate) async fn rebuild(store: &StoreHandle) -> Result<usize, StoreError> {
    let (mut made, mut hopeless) = (0, BTreeSet::new());
    loop {
        let asked = BATCH + u32::try_from(hopeless.len()).unwrap_or(u32::MAX - BATCH);
        let without = store.call(move |store| store.without_summary(asked)).await?;
        let new: Vec<RunId> = without.into_iter().filter(|run| !hopeless.contains(run)).collect();
        if new.is_empty() {
            return Ok(made);
        }
        for run in new {
            if make(store, &run).await? {
                made += 1;
            } else {
                hopeless.insert(run);
            }
        }
    }
}
