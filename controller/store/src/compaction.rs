//! Compacts finished runs for as long as the controller runs, a step at a time and resting in between, so that nobody waits for it.

use std::time::{Duration, Instant};

use crate::handle::StoreHandle;
use crate::records::StoreError;

/// Bytes of events' text that one step packs: some milliseconds of the store's thread.
pub const COMPACTION_STEP: usize = 128 << 10;
/// The rest after a step, by the time that the step took, its waiting for others included: a fifth of the time is work at most.
const REST: u32 = 4;
/// How long until it looks again when nothing was left to do.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long until it tries again after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// Never ends before the store does.
pub async fn compact_finished_runs(store: StoreHandle) {
    let mut runs = 0;
    loop {
        let began = Instant::now();
        let rest = match store.call(|store| store.compact(COMPACTION_STEP)).await {
            Ok(0) => {
                if runs > 0 {
                    tracing::debug!(runs, "the events of finished runs are compacted");
                }
                runs = 0;
                LOOK_EVERY
            }
            Ok(some) => {
                runs += some;
                began.elapsed() * REST
            }
            Err(StoreError::Stopped) => return,
            Err(error) => {
                tracing::warn!(%error, "finished runs were not compacted; it is tried again");
                AFTER_FAILURE
            }
        };
        tokio::time::sleep(rest).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::id::RunId;

    use crate::contract::finished_run;
    use crate::{Finished, SqliteStore, Store};

    const WITHIN: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn finished_runs_are_compacted_while_the_controller_runs() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("store.db");
        let mut store = SqliteStore::open(&path).unwrap();
        for _ in 0..40 {
            let run = RunId::generate();
            store.append(&run, finished_run()).unwrap();
            store.keep_finished(&run, 2, None).unwrap();
        }
        let handle = StoreHandle::spawn(Box::new(store));
        let compaction = tokio::spawn(compact_finished_runs(handle.clone()));
        let other = rusqlite::Connection::open(&path).unwrap();
        let rows = || {
            other
                .query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        let until = Instant::now() + WITHIN;
        while rows() > 0 {
            assert!(Instant::now() < until, "{} rows are left after {WITHIN:?}", rows());
            tokio::task::yield_now().await;
        }
        compaction.abort();
    }
}
