//! Every run ends on record: one whose driver broke, or could not record, is taken up again as after a restart. It conducts nothing itself.

use std::time::Duration;

use controller_store::StoreError;
use proto_model::id::RunId;
use proto_model::injection::EndedBy;
use proto_model::reading::Milestone;
use tokio::task::JoinHandle;

use crate::machine::{Conductor, Decision};
use crate::supervisor::Supervisor;

/// Between two tries to take a run up again; the pause doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Supervisor {
    /// Until the driver is done with its run.
    pub(crate) async fn attend(self, run: RunId, driver: JoinHandle<bool>) {
        let finished = match driver.await {
            Ok(finished) => finished,
            Err(error) => {
                tracing::error!(%run, %error, "a run's driver broke; its hosts are told to undo");
                self.stop_all_of(&run).await;
                false
            }
        };
        if finished || self.is_leaving() {
            return self.let_go(&run).await;
        }
        self.revive(&run).await;
    }

    async fn stop_all_of(&self, run: &RunId) {
        let injections = self.runs().get(run).map(|going| going.injections.clone()).unwrap_or_default();
        for injection in injections {
            // One that is not delivered is ended by its lease.
            let _ = self.0.parts.voice.stop(&injection.host, &injection.id, EndedBy::Stop).await;
        }
    }

    /// Tries until the store gives the run back. Until then its hosts count as taken, and nobody renews their leases.
    async fn revive(&self, run: &RunId) {
        let mut pause = FIRST_PAUSE;
        while !self.is_leaving() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.taken_up(run).await {
                Ok(Some((conductor, decision))) => {
                    tracing::warn!(%run, "the run is taken up again, stopped, and judged");
                    self.launch(conductor, decision);
                    return;
                }
                Ok(None) => break,
                Err(error) => tracing::warn!(%run, %error, "the run cannot be read yet; it is tried again"),
            }
        }
        self.let_go(run).await;
    }

    /// None when it is finished after all, or has no readable beginning.
    async fn taken_up(&self, run: &RunId) -> Result<Option<(Conductor, Decision)>, StoreError> {
        let parts = &self.0.parts;
        let run = run.clone();
        let events = parts.store.call(move |store| store.run_events(&run, 1)).await?;
        if events.iter().any(|event| event.body.milestone() == Some(Milestone::Finished)) {
            return Ok(None);
        }
        Ok(Conductor::resume(&events, &self.connected(), parts.settings, parts.clock.now()))
    }
}
