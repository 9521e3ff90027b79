//! When many hosts are lost at once the controller suspects itself: counts losses in a window and says when it is too much. It halts
//! nobody and knows no clock.

use std::collections::BTreeMap;
use std::fmt;

use proto_model::id::HostName;
use proto_model::quantity::Millis;
use proto_model::time::Timestamp;

/// What is too much: more than this share of the connected hosts, and at least so many, within so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MassLossRule {
    pub share_percent: u32,
    pub hosts: u32,
    pub within_ms: u64,
}

impl Default for MassLossRule {
    fn default() -> Self {
        Self {
            share_percent: 20,
            hosts: 5,
            within_ms: 30_000,
        }
    }
}

/// Losses that have come together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MassLoss {
    pub lost: usize,
    /// Connected hosts before the first of them was lost.
    pub of: usize,
    pub rule: MassLossRule,
}

impl fmt::Display for MassLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (share, rule) = (100.0 * self.lost as f64 / self.of as f64, &self.rule);
        write!(
            f,
            "{} of {} connected hosts ({share:.0}%) were lost within {} while runs were active; more than {}% and at least {} is too much",
            self.lost,
            self.of,
            Millis(rule.within_ms),
            rule.share_percent,
            rule.hosts
        )
    }
}

/// Hosts that were lost not long ago and are still away.
#[derive(Debug, Default)]
pub(crate) struct Losses(BTreeMap<HostName, Timestamp>);

impl Losses {
    /// Takes a loss that nobody expected; `connected` is how many hosts still are, those that are expected to fall silent left out.
    pub fn lost(&mut self, host: &HostName, connected: usize, rule: MassLossRule, now: Timestamp) -> Option<MassLoss> {
        self.0.insert(host.clone(), now);
        self.0.retain(|_, at| now.since(*at) <= rule.within_ms);
        let (lost, of) = (self.0.len(), self.0.len() + connected);
        let too_many = lost >= rule.hosts as usize && lost * 100 > of * rule.share_percent as usize;
        too_many.then_some(MassLoss { lost, of, rule })
    }

    pub fn returned(&mut self, host: &HostName) {
        self.0.remove(host);
    }

    pub fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: MassLossRule = MassLossRule {
        share_percent: 20,
        hosts: 5,
        within_ms: 30_000,
    };

    fn host(n: usize) -> HostName {
        HostName::parse(&format!("h{n}")).unwrap()
    }

    /// Loses hosts one after the other, `every_ms`, of so many; the first number at which it is too much.
    fn too_much_at(all: usize, every_ms: u64) -> Option<usize> {
        let mut losses = Losses::default();
        (1..=all).find(|n| {
            losses
                .lost(&host(*n), all - n, RULE, Timestamp(0).plus_ms(*n as u64 * every_ms))
                .is_some()
        })
    }

    #[test]
    fn it_takes_more_than_the_share_and_at_least_the_number() {
        assert_eq!(too_much_at(100, 10), Some(21), "20 of 100 are exactly the share");
        assert_eq!(too_much_at(25, 10), Some(6));
        assert_eq!(too_much_at(20, 10), Some(5));
        assert_eq!(too_much_at(4, 10), None, "a small fleet has too few to tell");
    }

    #[test]
    fn what_comes_slowly_or_comes_back_is_no_mass() {
        let mut losses = Losses::default();
        for n in 1..=40 {
            // At most 11 within 30 s, of at least 71.
            assert_eq!(losses.lost(&host(n), 100 - n, RULE, Timestamp(3_000 * n as i64)), None);
        }
        let mut losses = Losses::default();
        for n in 0..100 {
            assert_eq!(losses.lost(&host(n), 99, RULE, Timestamp(n as i64)), None);
            losses.returned(&host(n));
        }
    }

    #[test]
    fn one_host_counts_once_and_the_words_hold_the_numbers() {
        let mut losses = Losses::default();
        for _ in 0..50 {
            assert_eq!(losses.lost(&host(1), 9, RULE, Timestamp(1)), None);
        }
        (2..5).for_each(|n| assert_eq!(losses.lost(&host(n), 10 - n, RULE, Timestamp(2)), None));
        let words = losses.lost(&host(5), 5, RULE, Timestamp(3)).unwrap().to_string();
        assert!(words.starts_with("5 of 10 connected hosts (50%) were lost within 30s"), "{words}");
    }
}
