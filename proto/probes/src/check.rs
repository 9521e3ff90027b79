//! One sample: ask once, within the timeout, and say whether the answer was good, bad or missing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto_model::probe::{ProbeCheck, ProbeSpec, Sample, SampleResult, SampledBy, ValueBounds};
use proto_model::time::Timestamp;
use tokio::net::{TcpStream, lookup_host};

use crate::address::AddressRule;
use crate::{http, prometheus, tcp};

/// What asking came to, before it is timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Good,
    /// Asked, and a bound broke.
    Bad(String),
    /// Could not be asked, or has no answer.
    Missing(String),
}

impl Answer {
    /// A number held against its bounds; what is not a number is no answer.
    pub fn of(value: f64, bounds: &ValueBounds) -> Self {
        if value.is_nan() {
            return Self::Missing("the value is not a number".to_owned());
        }
        bounds.broken_by(value).map_or(Self::Good, Self::Bad)
    }
}

/// An answer with the number it is about, where it is about one.
pub type Told = (Answer, Option<f64>);

/// Asks once. Never longer than the probe's timeout. `now` is the wall clock at the start.
pub async fn check(spec: &ProbeSpec, rule: &AddressRule, prober: &SampledBy, now: Timestamp) -> Sample {
    let asked = async {
        match &spec.check {
            ProbeCheck::Http(check) => (http::ask(check, rule).await, None),
            ProbeCheck::Tcp(check) => (tcp::ask(check, rule).await, None),
            ProbeCheck::Prometheus(check) => prometheus::ask(check, rule).await,
            ProbeCheck::Command(_) => (Answer::Missing("commands are run by hosts, and this is none".to_owned()), None),
        }
    };
    timed(spec, prober, now, asked).await
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
    let (result, error) = match answer {
        Answer::Good => match spec.check.within_ms().filter(|within| took_ms > *within) {
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
    match spec.check {
        ProbeCheck::Prometheus(_) => Answer::Missing(text),
        _ => Answer::Bad(text),
    }
}

/// Connects to the first address that answers. A name that does not resolve or may not be probed is `Missing`; a refusal is `Bad`.
pub(crate) async fn connect(host: &str, port: u16, rule: &AddressRule) -> Result<TcpStream, Answer> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port))
        .await
        .map_err(|e| Answer::Missing(format!("resolve {host}: {e}")))?
        .collect();
    let mut last = Answer::Missing(format!("{host} has no address"));
    for address in addresses {
        if let Some(why) = rule.refusal(address) {
            last = Answer::Missing(why);
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Answer::Bad(format!("connect to {address}: {error}")),
        }
    }
    Err(last)
}
