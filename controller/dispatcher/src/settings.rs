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
            heartbeat_ms: 5_000,
            certificate_ms: 24 * 3_600_000,
            hello_within_ms: 5_000,
            preflight_within_ms: 5_000,
            verify_within_ms: 10_000,
            clone_ping_ms: 5_000,
        }
    }
}

impl DispatcherSettings {
    /// The interval for a fleet of this size: at most 500 heartbeats a second in all, and at least one in 20 s from each host.
    pub(crate) fn heartbeat_for(&self, hosts: usize) -> u64 {
        let thin = u64::try_from(hosts).unwrap_or(u64::MAX).saturating_mul(2);
        self.heartbeat_ms.max(thin.min(20_000))
    }
}

/// Bytes of a request to enrol: a token, a certificate request, a name.
pub(crate) const MAX_ENROL_REQUEST: usize = 16 << 10;

/// Enrolments with a valid token that are carried out at once, and how long others wait for their turn.
pub(crate) const ENROLMENTS_AT_ONCE: usize = 32;
pub(crate) const ENROLMENT_TURN: std::time::Duration = std::time::Duration::from_secs(10);

/// Sessions that may begin in one second, and at once: a fleet of 10,000 is back within half a minute.
pub(crate) const SESSIONS: (f64, f64) = (800.0, 800.0);

/// The longest wait of a session for its turn: less than a hello or its answer may take.
pub(crate) const SESSION_TURN: std::time::Duration = std::time::Duration::from_secs(10);

/// Sessions of one identity at the same time, clones included.
pub(crate) const MAX_SESSIONS: usize = 4;

/// Heartbeats that may be missing before a host counts as lost, with half of one more for their jitter.
pub(crate) const MISSED_HEARTBEATS: u64 = 3;

/// How far a host's clock may be off before it is said.
pub(crate) const TOLERATED_OFFSET_MS: i64 = 5_000;

/// Preflights and proofs that are awaited at once, of each. A host's time to answer begins when it is asked, so that the last host of a large
/// fleet has as long as the first.
pub(crate) const ANSWERS_AT_ONCE: usize = 256;

/// The longest wait of a host for its turn to be asked: by then whoever wanted to know has given up.
pub(crate) const ASKED_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// Answers to a halt that may wait to be counted; after more at once, the hosts are looked through.
pub(crate) const HALT_ANSWERS: usize = 1_024;
