//! Keeps what is known of a run in short when it is finished and when it is amended, and reads those that are outdated. No run waits for it.

use controller_report::fold;
use controller_store::{StoreError, StoreHandle};
use proto_model::document::RunDocument;
use proto_model::finished::FinishedRun;
use proto_model::id::RunId;

/// Outdated runs that are looked up at a time.
const BATCH: u32 = 100;

/// Makes the summary of a finished run from its events and keeps it. False when the run is not finished or has no beginning.
async fn make(store: &StoreHandle, run: &RunId) -> Result<bool, StoreError> {
    Ok(looked_through(store, run).await?.is_some_and(|run| run.verdict.is_some()))
}

/// The run as its events tell it; of a finished one the summary is kept.
pub(crate) async fn looked_through(store: &StoreHandle, run: &RunId) -> Result<Option<RunDocument>, StoreError> {
    let id = run.clone();
    let events = store.call(move |store| store.run_events(&id, 1)).await?;
    let Some(last) = events.last().map(|last| last.seq) else {
        return Ok(None);
    };
    let document = fold(&events);
    if document.as_ref().is_some_and(|run| run.verdict.is_none()) {
        return Ok(document);
    }
    let (run, known) = (run.clone(), document.as_ref().map(FinishedRun::from));
    store.call(move |store| store.keep_finished(&run, last, known.as_ref())).await?;
    Ok(document)
}

/// As `make`; a list makes it again when this fails.
pub(crate) async fn keep(store: &StoreHandle, run: &RunId) {
    if let Err(error) = make(store, run).await {
        tracing::warn!(%run, %error, "the run's summary was not kept; the next list makes it");
    }
}

/// Reads finished runs that are outdated: of a store that an older version kept, after a crash, or with an event that came late.
/// A batch is kept when it is read, so that whoever comes after a stop goes on from there. Returns how many.
pub(crate) async fn rebuild(store: &StoreHandle) -> Result<usize, StoreError> {
    let mut made = 0;
    loop {
        let outdated = store.call(|store| store.outdated(BATCH)).await?;
        if outdated.is_empty() {
            return Ok(made);
        }
        let mut read = Vec::with_capacity(outdated.len());
        for run in outdated {
            let id = run.clone();
            let events = store.call(move |store| store.run_events(&id, 1)).await?;
            let known = fold(&events).map(|run| FinishedRun::from(&run));
            made += usize::from(known.is_some());
            read.push((run, events.last().map_or(0, |last| last.seq), known));
        }
        store.call(move |store| store.keep_all(&read)).await?;
    }
}
