//! How often something may be tried: a bucket for all, and one for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use proto_model::time::Timestamp;

/// Addresses remembered; the oldest knowledge is dropped beyond that.
const MAX_ADDRESSES: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    fn take(&mut self, now: Timestamp, per_second: f64, burst: f64) -> bool {
        let refill = now.since(self.at) as f64 / 1_000.0 * per_second;
        (self.tokens, self.at) = ((self.tokens + refill).min(burst), now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// At most 20 a second in all (50 at once), and 2 a second from one address (10 at once).
#[derive(Debug, Default)]
pub(crate) struct EnrolmentRate {
    state: Mutex<(Option<Bucket>, HashMap<IpAddr, Bucket>)>,
}

impl EnrolmentRate {
    pub fn allows(&self, address: IpAddr, now: Timestamp) -> bool {
        const ALL: (f64, f64) = (20.0, 50.0);
        const EACH: (f64, f64) = (2.0, 10.0);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, each) = &mut *state;
        if each.len() >= MAX_ADDRESSES {
            each.clear();
        }
        let fresh = |burst| Bucket { tokens: burst, at: now };
        each.entry(address).or_insert(fresh(EACH.1)).take(now, EACH.0, EACH.1) && all.get_or_insert(fresh(ALL.1)).take(now, ALL.0, ALL.1)
    }
}

/// One bucket for everybody.
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

    pub fn allows(&self, now: Timestamp) -> bool {
        let mut bucket = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Bucket {
            tokens: self.burst,
            at: now,
        };
        bucket.get_or_insert(fresh).take(now, self.per_second, self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_slowed_before_all_are() {
        let rate = EnrolmentRate::default();
        let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let allowed = (0..30).filter(|_| rate.allows(one, Timestamp(0))).count();
        assert_eq!(allowed, 10);
        assert!(rate.allows(other, Timestamp(0)));
        assert!(rate.allows(one, Timestamp(1_000)));
    }
}
