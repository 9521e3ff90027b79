//! One sample: ask once, within the timeout, and say whether the answer was good, bad or missing.

use std::time::{Duration, Instant};

use proto_model::probe::{ProbeSpec, Sample, SampleResult, SampledBy};
use proto_model::time::Timestamp;

use crate::address::AddressRule;
use crate::answer::{Answer, Told};
use crate::kind::{AnyProbe, Timeout};
use crate::registry;

/// Asks once. Never longer than the probe's timeout. `now` is the wall clock at the start.
pub async fn check(spec: &ProbeSpec, rule: &AddressRule, prober: &SampledBy, now: Timestamp) -> Sample {
    let ask = async {
        match registry::find(&spec.check.kind) {
            Some(kind) => kind.ask(&spec.check.params, rule).await,
            None => (Answer::Missing(format!("this prober knows no {:?} probe", spec.check.kind)), None),
        }
    };
    timed(spec, prober, now, ask).await
}

/// Waits for the answer, never longer than the probe's timeout, and makes it a sample. `now` is the wall clock at the start.
pub async fn timed(spec: &ProbeSpec, prober: &SampledBy, now: Timestamp, asked: impl Future<Output = Told>) -> Sample {
    let started = Instant::now();
    let limit = Duration::from_millis(spec.timeout_ms);
    let (answer, value) = match tokio::time::timeout(limit, asked).await {
        Ok(told) => told,
        Err(_) => (too_late(spec), None),
    };
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let within_ms = spec.check.within().map(|within| within.0);
    let (result, error) = match answer {
        Answer::Good => match within_ms.filter(|within| took_ms > *within) {
            Some(within) => (SampleResult::Bad, Some(format!("took {took_ms} ms; the bound is {within} ms"))),
            None => (SampleResult::Good, None),
        },
        Answer::Bad(why) => (SampleResult::Bad, Some(why)),
        Answer::Missing(why) => (SampleResult::Missing, Some(why)),
    };
    let (value, unit) = match value {
        Some(value) => (Some(value).filter(|value| value.is_finite()), None),
        None => (Some(took_ms as f64), Some("ms".to_owned())),
    };
    Sample {
        probe: spec.name.clone(),
        prober: prober.clone(),
        started_at: now,
        took_ms,
        result,
        value,
        unit,
        error,
    }
}

/// A system that does not answer in time is bad; a meter that does not answer says nothing of the system.
fn too_late(spec: &ProbeSpec) -> Answer {
    let text = format!("no answer within {} ms", spec.timeout_ms);
    match registry::find(&spec.check.kind).map(AnyProbe::timeout) {
        Some(Timeout::Missing) => Answer::Missing(text),
        _ => Answer::Bad(text),
    }
}
