//! What a worker's body may ask while it loads the host: whether to go on. It is told nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by every thread of a worker.
#[derive(Debug, Clone)]
pub struct WorkControl {
    pub deadline_boot_ms: u64,
    stop: Arc<AtomicBool>,
}

impl WorkControl {
    pub fn new(deadline_boot_ms: u64, stop: Arc<AtomicBool>) -> Self {
        Self { deadline_boot_ms, stop }
    }

    /// True when the pipe to the agent closed or the deadline has passed (the caller's watcher sets it).
    pub fn should_stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
