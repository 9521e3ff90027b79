//! What the listeners of one program hold open together, so that no outsider can take what the local socket, identified peers and files need.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::budget::{Budget, Full, Quota, Seat};

/// Open files that no connection may take: the store, the audit log, reports, listeners and the local socket.
const RESERVED_FILES: usize = 256;
/// At most this share of the other open files is for peers that nobody knows.
const OUTSIDERS_SHARE: usize = 4;

/// How often a newcomer looks for a seat whose protection has run out.
const SEAT_AGAIN: Duration = Duration::from_millis(100);

/// A place among the handshakes, and what resolves when it is given away.
type HandshakeSeat = (Seat<IpAddr>, oneshot::Receiver<()>);

/// A connection that was accepted, and nothing more.
pub(crate) enum Newcomer {
    Sits(HandshakeSeat),
    Waits(OwnedSemaphorePermit),
}

/// How much the listeners of one program take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a connection without an identity may stay without a finished request.
    pub unidentified: Duration,
    /// How long a peer that was admitted and is silent keeps its seat when others want it.
    pub silence: Duration,
    /// How long a peer keeps its seat that began its handshake or finished a request.
    pub activity: Duration,
    /// TLS handshakes at once, by address.
    pub handshakes: Quota,
    /// Connections of peers that showed no identity, by address.
    pub outsiders: Quota,
    /// Connections of identified peers, by identity.
    pub identified: Quota,
}

impl Default for Limits {
    fn default() -> Self {
        Self::for_open_files(1 << 16)
    }
}

impl Limits {
    /// What fits into this many open files. A quarter at most is for outsiders; some files are for no connection at all.
    pub fn for_open_files(files: u64) -> Self {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let free = files.saturating_sub(RESERVED_FILES.min(files / 2));
        let outsiders = free / OUTSIDERS_SHARE;
        let handshakes = (outsiders / 4).clamp(1, 512);
        // As many as have a handshake may wait for one.
        let idle = outsiders.saturating_sub(2 * handshakes).clamp(1, 1_024);
        Self {
            handshake: Duration::from_secs(5),
            unidentified: Duration::from_secs(10),
            silence: Duration::from_millis(250),
            activity: Duration::from_secs(1),
            handshakes: Quota {
                each: handshakes.min(64),
                all: handshakes,
            },
            outsiders: Quota {
                each: idle.min(64),
                all: idle,
            },
            identified: Quota {
                each: 64,
                all: free.saturating_sub(2 * handshakes + idle).max(1),
            },
        }
    }
}

/// The budgets of all listeners of a program. Clones share them.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    handshakes: Budget<IpAddr>,
    /// Newcomers that wait for a handshake.
    newcomers: Arc<Semaphore>,
    outsiders: Budget<IpAddr>,
    identified: Budget<String>,
    refused: LogLimiter,
    evicted: LogLimiter,
    failed: LogLimiter,
    crowded: LogLimiter,
}

impl Admission {
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner {
            limits,
            handshakes: Budget::new(limits.handshakes),
            newcomers: Arc::new(Semaphore::new(limits.handshakes.all)),
            outsiders: Budget::new(limits.outsiders),
            identified: Budget::new(limits.identified),
            refused: LogLimiter::default(),
            evicted: LogLimiter::default(),
            failed: LogLimiter::default(),
            crowded: LogLimiter::default(),
        }))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// A seat for a handshake, or leave to wait for one. Who has none may wait: a fleet that returns at once is served in turn, where a
    /// refusal would cost both sides another handshake. Who has one already is refused, and so delays no other.
    pub(crate) fn newcomer(&self, address: IpAddr) -> Option<Newcomer> {
        let taken = self.take_handshake(address);
        let may_wait = matches!(taken, Err(Full::All)) && self.0.handshakes.held(&network_of(address)) == 0;
        if may_wait && let Ok(place) = self.0.newcomers.clone().try_acquire_owned() {
            return Some(Newcomer::Waits(place));
        }
        self.or_refusal(taken, address, "TLS handshakes", self.0.limits.handshakes)
            .map(Newcomer::Sits)
    }

    /// The seat of a newcomer, for whom one is looked for as long as a handshake may take.
    pub(crate) async fn handshake(&self, newcomer: Newcomer, address: IpAddr) -> Option<HandshakeSeat> {
        let until = Instant::now() + self.0.limits.handshake;
        let _place = match newcomer {
            Newcomer::Sits(seat) => return Some(seat),
            Newcomer::Waits(place) => place,
        };
        loop {
            // Seats are also had by waiting: their protection runs out.
            drop(timeout(SEAT_AGAIN, self.0.handshakes.freed()).await);
            let taken = self.take_handshake(address);
            if !matches!(taken, Err(Full::All)) || Instant::now() >= until {
                return self.or_refusal(taken, address, "TLS handshakes", self.0.limits.handshakes);
            }
        }
    }

    fn take_handshake(&self, address: IpAddr) -> Result<HandshakeSeat, Full> {
        self.0.handshakes.take(network_of(address), Some(self.0.limits.silence))
    }

    pub(crate) fn outsider(&self, address: IpAddr) -> Option<(Seat<IpAddr>, oneshot::Receiver<()>)> {
        let taken = self.0.outsiders.take(network_of(address), Some(self.0.limits.silence));
        self.or_refusal(taken, address, "connections without an identity", self.0.limits.outsiders)
    }

    /// A seat that is given to nobody else. Without one the peer is treated as an outsider.
    pub(crate) fn identified(&self, identity: &str) -> Option<Seat<String>> {
        match self.0.identified.take(identity.to_owned(), None) {
            Ok((seat, _)) => Some(seat),
            Err(full) => {
                if let Some(suppressed) = self.0.crowded.allow() {
                    let limit = limit_of(full, self.0.limits.identified);
                    tracing::error!(
                        identity,
                        limit,
                        suppressed,
                        "an identified peer finds no room and may stay for one request only; raise the limit of open files if these are honest hosts"
                    );
                }
                None
            }
        }
    }

    pub(crate) fn note_eviction(&self, address: IpAddr) {
        if let Some(suppressed) = self.0.evicted.allow() {
            tracing::warn!(%address, suppressed, "a connection without an identity was closed to make room for another");
        }
    }

    pub(crate) fn note_failure(&self, address: IpAddr, error: &str) {
        if let Some(suppressed) = self.0.failed.allow() {
            tracing::info!(%address, error, suppressed, "a connection failed before it was identified");
        }
    }

    fn or_refusal<T>(&self, taken: Result<T, Full>, address: IpAddr, what: &'static str, quota: Quota) -> Option<T> {
        taken
            .inspect_err(|full| {
                if let Some(suppressed) = self.0.refused.allow() {
                    let (per_address, limit) = (*full == Full::Each, limit_of(*full, quota));
                    tracing::warn!(%address, what, limit, per_address, suppressed, "a connection was refused: too many at once");
                }
            })
            .ok()
    }
}

fn limit_of(full: Full, quota: Quota) -> usize {
    match full {
        Full::Each => quota.each,
        Full::All => quota.all,
    }
}

/// The key by which limits count an address: an IPv4 address by itself, an IPv6 address by its /64, all of which one machine can have.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Lets one line through in ten seconds, and counts the others, so that outsiders cannot fill the log.
#[derive(Debug, Default)]
pub struct LogLimiter {
    last: Mutex<Option<Instant>>,
    suppressed: AtomicU64,
}

impl LogLimiter {
    const EVERY: Duration = Duration::from_secs(10);

    /// How many lines were suppressed since the last one, when it is time for another.
    pub fn allow(&self) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < Self::EVERY) {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(Instant::now());
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_fit_into_the_open_files_and_outsiders_get_a_quarter() {
        for files in [64, 256, 1_024, 4_096, 65_536, 1 << 20] {
            let limits = Limits::for_open_files(files);
            let outside = 2 * limits.handshakes.all + limits.outsiders.all;
            let all = outside + limits.identified.all;
            assert!(all as u64 + 32 <= files, "{files}: {limits:?}");
            assert!(
                4 * outside as u64 <= files && limits.outsiders.each <= limits.outsiders.all,
                "{files}: {limits:?}"
            );
        }
        assert_eq!(Limits::for_open_files(1_024).identified.all, 1_024 - 256 - 192);
    }

    #[test]
    fn an_ipv6_address_counts_as_its_network() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:0:0:1"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }

    #[test]
    fn suppressed_lines_are_counted() {
        let limiter = LogLimiter::default();
        assert_eq!(limiter.allow(), Some(0));
        assert_eq!((limiter.allow(), limiter.allow()), (None, None));
        *limiter.last.lock().unwrap() = Instant::now().checked_sub(2 * LogLimiter::EVERY);
        assert_eq!(limiter.allow(), Some(2));
    }
}
