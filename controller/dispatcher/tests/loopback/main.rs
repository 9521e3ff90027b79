//! The dispatcher and the agent's session against each other over real TLS on loopback; no host is touched.

mod agent;
mod catalogues;
mod clones;
mod controller;
mod facts;
mod halts;
mod joining;
mod obedience;
mod renewing;
mod restored;
mod sessions;
mod trust;

use std::time::{Duration, Instant};

/// Waits until it is so, at most 15 s.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(15);
    while !is_so() {
        assert!(Instant::now() < until, "not within 15 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
