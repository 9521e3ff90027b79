//! How long the dispatcher waits for what; every figure in one place.

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DispatcherSettings {
    pub heartbeat_ms: u64,
    /// How long a host's certificate lives.
    pub certificate_ms: u64,
    pub hello_within_ms: u64,
    pub preflight_within_ms: u64,
    pub verify_within_ms: u64,
    /// How long an old stream has to show that it is alive when a second one of its host appears.
    pub clone_ping_ms: u64,
}

impl Default for DispatcherSettings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 2_000,
            certificate_ms: 24 * 3_600_000,
            hello_within_ms: 5_000,
            preflight_within_ms: 5_000,
            verify_within_ms: 10_000,
            clone_ping_ms: 5_000,
        }
    }
}

/// Heartbeats that may be missing before a host counts as lost.
pub(crate) const MISSED_HEARTBEATS: u64 = 3;
