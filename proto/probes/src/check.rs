//! One sample: ask once, within the timeout, and say whether the answer was good, bad or missing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proto_model::probe::{ProbeCheck, ProbeSpec, Sample, SampleResult};
use proto_model::time::Timestamp;
use tokio::net::{TcpStream, lookup_host};

use crate::address::AddressRule;
use crate::{http, tcp};

/// What asking came to, before it is timed.
pub(crate) enum Answer {
    Good,
    /// Asked, and a bound broke.
    Bad(String),
    /// Could not be asked, or has no answer.
    Missing(String),
}

/// Asks once. Never longer than the probe's timeout. `now` is the wall clock at the start.
pub async fn check(spec: &ProbeSpec, rule: &AddressRule, prober: &str, now: Timestamp) -> Sample {
    let started = Instant::now();
    let limit = Duration::from_millis(spec.timeout_ms);
    let asked = async {
        match &spec.check {
            ProbeCheck::Http(check) => http::ask(check, rule).await,
            ProbeCheck::Tcp(check) => tcp::ask(check, rule).await,
        }
    };
    let answer = match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer,
        Err(_) => Answer::Bad(format!("no answer within {} ms", spec.timeout_ms)),
    };
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let within = match &spec.check {
        ProbeCheck::Http(check) => check.within_ms,
        ProbeCheck::Tcp(check) => check.within_ms,
    };
    let (result, error) = match answer {
        Answer::Good => match within.filter(|within| took_ms > *within) {
            Some(within) => (SampleResult::Bad, Some(format!("took {took_ms} ms; the bound is {within} ms"))),
            None => (SampleResult::Good, None),
        },
        Answer::Bad(why) => (SampleResult::Bad, Some(why)),
        Answer::Missing(why) => (SampleResult::Missing, Some(why)),
    };
    Sample {
        probe: spec.name.clone(),
        prober: prober.to_owned(),
        started_at: now,
        took_ms,
        result,
        value: Some(took_ms as f64),
        unit: Some("ms".to_owned()),
        error,
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
