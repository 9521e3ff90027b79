//! How often something may be tried: one bucket for everybody, or one for each network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto_model::time::Timestamp;
use proto_transport::{LogLimiter, network_of};

/// Networks remembered; those beyond that count as having guessed too often.
const MAX_ADDRESSES: usize = 10_000;
/// After this long a network has all its tries again.
const GUESSES_FORGOTTEN_MS: u64 = 5_000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    fn refill(&mut self, now: Timestamp, per_second: f64, burst: f64) {
        let more = now.since(self.at) as f64 / 1_000.0 * per_second;
        (self.tokens, self.at) = ((self.tokens + more).min(burst), now);
    }

    fn take(&mut self, now: Timestamp, per_second: f64, burst: f64) -> bool {
        self.refill(now, per_second, burst);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// Wrong tokens from one network: ten at once, and two more each second. A valid token is not a guess and is never counted.
#[derive(Debug, Default)]
pub(crate) struct GuessLimiter {
    each: Mutex<HashMap<IpAddr, Bucket>>,
    log: LogLimiter,
}

impl GuessLimiter {
    /// Counts a wrong token; false when its network has sent too many.
    pub fn count(&self, address: IpAddr, now: Timestamp) -> bool {
        const EACH: (f64, f64) = (2.0, 10.0);
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network_of(address);
        if each.len() >= MAX_ADDRESSES && !each.contains_key(&network) {
            each.retain(|_, bucket| now.since(bucket.at) < GUESSES_FORGOTTEN_MS);
            if each.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let fresh = Bucket { tokens: EACH.1, at: now };
        each.entry(network).or_insert(fresh).take(now, EACH.0, EACH.1)
    }

    /// How many lines were left out before this one, when a refusal may be logged.
    pub fn may_log(&self) -> Option<u64> {
        self.log.allow()
    }
}

/// How often what one host says of itself may be written: eight times at once, and once more every five seconds. Each write waits for the disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writes(Option<Bucket>);

impl Writes {
    pub fn take(&mut self, now: Timestamp) -> bool {
        const EACH: (f64, f64) = (0.2, 8.0);
        let fresh = Bucket { tokens: EACH.1, at: now };
        self.0.get_or_insert(fresh).take(now, EACH.0, EACH.1)
    }
}

/// One bucket for everybody, in which turns are taken ahead.
#[derive(Debug)]
pub(crate) struct Rate {
    state: Mutex<Option<Bucket>>,
    per_second: f64,
    burst: f64,
}

impl Rate {
    pub fn of((per_second, burst): (f64, f64)) -> Self {
        Self {
            state: Mutex::default(),
            per_second,
            burst,
        }
    }

    /// How long to wait for one's turn; `None` when that is longer than `longest`, and then no turn is taken.
    pub fn turn(&self, now: Timestamp, longest: Duration) -> Option<Duration> {
        let mut bucket = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Bucket {
            tokens: self.burst,
            at: now,
        };
        let bucket = bucket.get_or_insert(fresh);
        bucket.refill(now, self.per_second, self.burst);
        let wait = Duration::from_secs_f64((1.0 - bucket.tokens).max(0.0) / self.per_second);
        (wait <= longest).then(|| {
            bucket.tokens -= 1.0;
            wait
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tokens_are_limited_by_network() {
        let guesses = GuessLimiter::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let allowed = |of: &dyn Fn(u32) -> IpAddr| (0..30).filter(|n| guesses.count(of(*n), Timestamp(0))).count();
        assert_eq!(allowed(&|_| address("10.0.0.1")), 10);
        assert_eq!(allowed(&|n| address(&format!("2001:db8::{n:x}"))), 10, "a /64 is one network");
        assert_eq!(allowed(&|n| address(&format!("10.1.0.{n}"))), 30);
        assert!(guesses.count(address("10.0.0.1"), Timestamp(1_000)));
    }

    #[test]
    fn who_comes_at_once_waits_in_turn_and_only_who_would_wait_too_long_is_sent_away() {
        let rate = Rate::of((10.0, 2.0));
        let at = |ms| {
            (0..5)
                .map(|_| rate.turn(Timestamp(ms), Duration::from_millis(250)))
                .collect::<Vec<_>>()
        };
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(at(0), [ms(0), ms(0), ms(100), ms(200), None]);
        assert_eq!(
            at(100),
            [ms(200), None, None, None, None],
            "one turn came, and who was sent away took none"
        );
        assert_eq!(at(10_000), [ms(0), ms(0), ms(100), ms(200), None]);
    }

    #[test]
    fn a_host_writes_eight_times_and_then_once_in_five_seconds() {
        let mut writes = Writes::default();
        let mut taken = |ms| (0..20).filter(|_| writes.take(Timestamp(ms))).count();
        assert_eq!([taken(0), taken(4_999), taken(5_000), taken(60_000)], [8, 0, 1, 8]);
    }

    #[test]
    fn what_is_remembered_of_networks_is_bounded_and_forgotten() {
        let guesses = GuessLimiter::default();
        for n in 0..MAX_ADDRESSES as u32 {
            guesses.count(IpAddr::V4(n.into()), Timestamp(0));
        }
        let new = IpAddr::from([11, 0, 0, 1]);
        assert!(!guesses.count(new, Timestamp(0)));
        assert!(guesses.count(new, Timestamp(0).plus_ms(GUESSES_FORGOTTEN_MS)));
        assert_eq!(guesses.each.lock().unwrap().len(), 1);
    }
}
