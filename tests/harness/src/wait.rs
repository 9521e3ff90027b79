//! Waiting for a condition instead of for hope; it always gives up, and says on what.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interrupt;

const STEP: Duration = Duration::from_millis(20);

/// Asks `found` until it has something; how long that took comes with it.
pub fn for_some<T>(what: impl Display, limit: Duration, mut found: impl FnMut() -> Result<Option<T>>) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(value) = found()? {
            return Ok((value, start.elapsed()));
        }
        if start.elapsed() > limit {
            bail!("{what}: not within {limit:?}");
        }
        interrupt::check()?;
        std::thread::sleep(STEP);
    }
}

/// Asks until the answer is yes; returns how long that took.
pub fn until(what: impl Display, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<Duration> {
    Ok(for_some(what, limit, || Ok(holds()?.then_some(())))?.1)
}
