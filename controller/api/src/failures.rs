//! Refusals by address: failed tries to be somebody bar it for a while, and too many are counted instead of listed. Nobody who did not
//! fail is barred because of others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto_model::time::Timestamp;
use proto_transport::network_of;

/// What one address has at once, and how long until one more.
const AT_ONCE: u64 = 10;
const ONE_MORE_MS: u64 = 1_000;
/// Addresses remembered; beyond that the rest share one record, and are not barred.
const MAX_ADDRESSES: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    each: HashMap<IpAddr, Record>,
    rest: Record,
    total: u64,
}

#[derive(Debug, Default)]
struct Record {
    failed: Allowance,
    listed: Allowance,
    /// Refusals since the last one that was listed.
    unlisted: u64,
}

/// Each use books the next second, and ten may be booked ahead.
#[derive(Debug)]
struct Allowance(Timestamp);

impl Default for Allowance {
    fn default() -> Self {
        Self(Timestamp(0))
    }
}

impl Allowance {
    fn is_spent(&self, now: Timestamp) -> bool {
        self.0.since(now) > (AT_ONCE - 1) * ONE_MORE_MS && !self.is_of_another_time(now)
    }

    fn book(&mut self, now: Timestamp) {
        if self.is_of_another_time(now) {
            self.0 = now;
        }
        if !self.is_spent(now) {
            self.0 = self.0.max(now).plus_ms(ONE_MORE_MS);
        }
    }

    /// Further ahead than may be booked: the wall clock was set back since.
    fn is_of_another_time(&self, now: Timestamp) -> bool {
        self.0.since(now) > AT_ONCE * ONE_MORE_MS
    }
}

impl Failures {
    /// Whether this address has failed so often that it is not listened to.
    pub fn is_barred(&self, address: IpAddr, now: Timestamp) -> bool {
        self.state()
            .each
            .get(&network_of(address))
            .is_some_and(|of| of.failed.is_spent(now))
    }

    /// Counts a failed authentication.
    pub fn count(&self, address: IpAddr, now: Timestamp) {
        let mut state = self.state();
        state.total += 1;
        state.record(address, now).failed.book(now);
    }

    /// Failed authentications so far.
    pub fn total(&self) -> u64 {
        self.state().total
    }

    /// `Some` when a refusal of this address is to be listed, with how many before it were not.
    pub fn list(&self, address: IpAddr, now: Timestamp) -> Option<u64> {
        let mut state = self.state();
        let record = state.record(address, now);
        if record.listed.is_spent(now) {
            record.unlisted += 1;
            return None;
        }
        record.listed.book(now);
        Some(std::mem::take(&mut record.unlisted))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record(&mut self, address: IpAddr, now: Timestamp) -> &mut Record {
        let address = network_of(address);
        if self.each.len() >= MAX_ADDRESSES && !self.each.contains_key(&address) {
            self.each.retain(|_, of| of.failed.0.max(of.listed.0) > now || of.unlisted > 0);
            if self.each.len() >= MAX_ADDRESSES {
                return &mut self.rest;
            }
        }
        self.each.entry(address).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn one_address_is_barred_after_ten_and_others_are_not() {
        let failures = Failures::default();
        for n in 0..15 {
            assert_eq!(failures.is_barred(address(1), NOW), n >= 10, "{n}");
            failures.count(address(1), NOW);
        }
        assert!(!failures.is_barred(address(2), NOW));
        let later = NOW.plus_ms(ONE_MORE_MS);
        assert!(!failures.is_barred(address(1), later));
        failures.count(address(1), later);
        assert!(failures.is_barred(address(1), later));
        assert_eq!(failures.total(), 16);
    }

    #[test]
    fn a_clock_that_is_set_back_bars_nobody_for_long() {
        let failures = Failures::default();
        (0..15).for_each(|_| failures.count(address(1), NOW.plus_ms(3_600_000)));
        assert!(!failures.is_barred(address(1), NOW));
        (0..10).for_each(|_| failures.count(address(1), NOW));
        assert!(failures.is_barred(address(1), NOW) && !failures.is_barred(address(1), NOW.plus_ms(ONE_MORE_MS)));
    }

    #[test]
    fn refusals_that_are_not_listed_are_told_with_the_next_and_bar_nobody() {
        let failures = Failures::default();
        let listed = (0..15).filter(|_| failures.list(address(1), NOW).is_some()).count();
        assert_eq!(listed, 10);
        assert_eq!(failures.list(address(1), NOW.plus_ms(ONE_MORE_MS)), Some(5));
        assert!(!failures.is_barred(address(1), NOW));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nobody_new_is_barred() {
        let failures = Failures::default();
        for n in 0..MAX_ADDRESSES as u32 {
            failures.count(IpAddr::V4(n.into()), NOW);
        }
        let new = |n: u8| IpAddr::from([11, 0, 0, n]);
        (0..20).for_each(|n| failures.count(new(n), NOW));
        assert!((0..20).all(|n| !failures.is_barred(new(n), NOW)));
        assert_eq!(failures.state().each.len(), MAX_ADDRESSES);
        failures.count(new(0), NOW.plus_ms(20_000));
        assert_eq!(failures.state().each.len(), 1, "those whose time is over make room");
    }
}
