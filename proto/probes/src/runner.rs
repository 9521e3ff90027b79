//! One probe on its beat: ticks never overlap, and a beat that was missed is skipped, not caught up.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto_model::probe::{ProbeSpec, Sample, SampledBy};
use proto_model::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::address::AddressRule;
use crate::check::check;

/// Samples until the receiver is gone. Aborting the task ends it at once.
pub async fn run_probe(
    spec: ProbeSpec,
    prober: SampledBy,
    rule: AddressRule,
    samples: mpsc::Sender<Sample>,
    now: impl Fn() -> Timestamp + Send,
) {
    let every_ms = spec.every_ms;
    let asked = Arc::new((spec, prober, rule));
    on_beat(every_ms, samples, now, |now| {
        let asked = asked.clone();
        async move { check(&asked.0, &asked.2, &asked.1, now).await }
    })
    .await;
}

/// Asks once every `every_ms` until the receiver is gone; `ask` is given what `now` says when it begins.
pub async fn on_beat<Asked>(every_ms: u64, samples: mpsc::Sender<Sample>, now: impl Fn() -> Timestamp, ask: impl Fn(Timestamp) -> Asked)
where
    Asked: Future<Output = Sample>,
{
    let mut beat = tokio::time::interval(Duration::from_millis(every_ms.max(1)));
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        beat.tick().await;
        let sample = ask(now()).await;
        if samples.send(sample).await.is_err() {
            return;
        }
    }
}

/// What a host goes by, which has no clock of runs.
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
