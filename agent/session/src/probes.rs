//! Probes that this host runs for the controller while the session lasts; what they see is batched, and dropped before it would hold up anything.

use std::collections::HashMap;
use std::sync::Arc;

use agent_probes::HostRules;
use proto_model::id::{HostName, RunId};
use proto_model::probe::{ProbeSpec, Sample, SampledBy};
use proto_probes::{on_beat, wall_clock};
use proto_wire::convert::samples_to_wire;
use proto_wire::v1::Samples;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Probes at the same time.
const MOST: usize = 64;
/// Samples that wait for the next batch.
const QUEUE: usize = 512;
/// Samples in one message.
const BATCH: usize = 256;

pub(crate) struct Probes {
    prober: SampledBy,
    going: HashMap<(RunId, String), AbortHandle>,
    rules: HostRules,
    seen: mpsc::Sender<(RunId, Sample)>,
    waiting: mpsc::Receiver<(RunId, Sample)>,
}

impl Probes {
    pub fn of(host: &HostName, rules: HostRules) -> Self {
        let (seen, waiting) = mpsc::channel(QUEUE);
        Self {
            prober: SampledBy::Host(host.clone()),
            going: HashMap::new(),
            rules,
            seen,
            waiting,
        }
    }

    /// Starts it, in place of one of the same run and name.
    pub fn start(&mut self, run: RunId, spec: ProbeSpec) -> Result<(), String> {
        let kind = &spec.check.kind;
        if proto_probes::find(kind).is_none() {
            return Err(format!("{}: {kind:?} is not a kind of probe that this agent knows", spec.name));
        }
        let key = (run.clone(), spec.name.clone());
        if let Some(old) = self.going.remove(&key) {
            old.abort();
        }
        if self.going.len() >= MOST {
            return Err(format!("this host runs {MOST} probes already"));
        }
        let (sender, mut samples) = mpsc::channel(1);
        let probe = ask(spec, self.prober.clone(), self.rules.clone(), sender);
        let seen = self.seen.clone();
        let forward = async move {
            while let Some(sample) = samples.recv().await {
                if seen.try_send((run.clone(), sample)).is_err() {
                    tracing::debug!("a sample is dropped: too many wait");
                }
            }
        };
        let task = tokio::spawn(async move { tokio::join!(probe, forward) });
        self.going.insert(key, task.abort_handle());
        Ok(())
    }

    pub fn stop(&mut self, run: &RunId) {
        self.going.retain(|(of, _), task| {
            if of == run {
                task.abort();
            }
            of != run
        });
    }

    pub fn is_idle(&self) -> bool {
        self.going.is_empty() && self.waiting.is_empty()
    }

    /// What was seen since the last batch.
    pub fn batch(&mut self) -> Vec<Samples> {
        let mut by_run: HashMap<RunId, Vec<Sample>> = HashMap::new();
        while let Ok((run, sample)) = self.waiting.try_recv() {
            by_run.entry(run).or_default().push(sample);
        }
        let messages = by_run
            .iter()
            .flat_map(|(run, samples)| samples.chunks(BATCH).map(|part| samples_to_wire(run.to_string(), part)));
        messages.collect()
    }
}

async fn ask(spec: ProbeSpec, prober: SampledBy, rules: HostRules, samples: mpsc::Sender<Sample>) {
    let every_ms = spec.every_ms;
    let all = Arc::new((spec, rules, prober));
    on_beat(every_ms, samples, wall_clock, |now| {
        let all = all.clone();
        async move { agent_probes::check(&all.0, &all.1, &all.2, now).await }
    })
    .await;
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.going.values().for_each(AbortHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use agent_probes::Commands;
    use proto_model::probe::{ProbeCheck, ProbeRole, Prober, Tolerance};

    use super::*;

    #[tokio::test]
    async fn a_kind_that_this_agent_does_not_know_is_refused_by_name() {
        let mut probes = Probes::of(
            &HostName::parse("web").unwrap(),
            HostRules::of(Commands::none(), Vec::new(), Vec::new()),
        );
        let spec = |kind: &str| ProbeSpec {
            name: "answers".into(),
            role: ProbeRole::Guard,
            check: ProbeCheck {
                kind: kind.into(),
                params: Default::default(),
            },
            from: Prober::Hosts(vec![]),
            every_ms: 1_000,
            timeout_ms: 1_000,
            tolerate: Tolerance::Count(0),
            breaks: 3,
        };
        let refused = probes.start(RunId::generate(), spec("telepathy")).unwrap_err();
        assert!(refused.contains("\"telepathy\""), "{refused}");
        assert_eq!(probes.start(RunId::generate(), spec("tcp")), Ok(()));
    }
}
