//! Probes that the controller asks this host to run, sent in batches of a second. They end with the session.

use std::collections::HashMap;
use std::time::Duration;

use proto_model::probe::{ProbeSpec, Sample};
use proto_probes::{AddressRule, run_probe};
use proto_wire::v1::Samples;
use proto_wire::v1::agent_message::Body;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::outbox::Outbox;

/// Probes of one run that a host takes.
const MAX_PER_RUN: usize = 64;
const BATCH: Duration = Duration::from_secs(1);
const BUFFER: usize = 64;

/// Running probes by run; dropping it ends them all.
#[derive(Default)]
pub(crate) struct Probes(HashMap<String, JoinSet<()>>);

impl Probes {
    pub fn start(&mut self, run: &str, prober: &str, spec: ProbeSpec, outbox: &Outbox) {
        let probes = self.0.entry(run.to_owned()).or_default();
        if probes.len() >= 2 * MAX_PER_RUN {
            return tracing::warn!(run, limit = MAX_PER_RUN, "too many probes of one run");
        }
        let (sender, samples) = mpsc::channel(BUFFER);
        probes.spawn(run_probe(spec, prober.to_owned(), AddressRule::anything(), sender));
        probes.spawn(forward(run.to_owned(), samples, outbox.clone()));
    }

    pub fn stop(&mut self, run: &str) {
        self.0.remove(run);
    }
}

async fn forward(run: String, mut samples: mpsc::Receiver<Sample>, outbox: Outbox) {
    let mut beat = tokio::time::interval(BATCH);
    loop {
        beat.tick().await;
        let mut batch = Vec::new();
        while let Ok(sample) = samples.try_recv() {
            batch.push(sample);
        }
        if !batch.is_empty() {
            let samples_json = serde_json::to_string(&batch).unwrap_or_default();
            outbox.offer(Body::Samples(Samples {
                run: run.clone(),
                samples_json,
            }));
        }
    }
}
