//! How much memory a worker should have at a moment, from what it was asked and what it sees; pure.

/// What was asked for, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aim {
    /// Of the worker's own; in `total` of what is used in all.
    pub(super) amount: u64,
    pub(super) total: bool,
    /// Stays available whatever is asked.
    pub(super) reserve: u64,
    /// Bytes per second by which it grows.
    pub(super) rate: Option<u64>,
}

/// What a worker sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    pub(super) used: u64,
    pub(super) available: u64,
    pub(super) own: u64,
}

impl Aim {
    /// What the worker should have of its own after so long.
    pub(super) fn own(&self, elapsed_ms: u64, sight: Sight) -> u64 {
        let others = sight.used.saturating_sub(sight.own);
        let asked = if self.total {
            self.amount.saturating_sub(others)
        } else {
            self.amount
        };
        let room = (sight.own + sight.available).saturating_sub(self.reserve);
        asked.min(leaked(self.rate, elapsed_ms)).min(room)
    }

    /// Smaller differences than this are left alone.
    pub(super) fn slack(&self) -> u64 {
        (self.amount / 500).max(64 << 10)
    }
}

/// What a leak has come to; no bound without one.
pub(super) fn leaked(rate: Option<u64>, elapsed_ms: u64) -> u64 {
    let bytes = |rate: u64| u128::from(rate) * u128::from(elapsed_ms) / 1_000;
    rate.map_or(u64::MAX, |rate| u64::try_from(bytes(rate)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: Aim = Aim {
        amount: 1_000,
        total: false,
        reserve: 500,
        rate: None,
    };

    fn sight(used: u64, available: u64, own: u64) -> Sight {
        Sight { used, available, own }
    }

    #[test]
    fn what_is_asked_is_had_unless_the_reserve_would_go() {
        assert_eq!(ADD.own(0, sight(0, 9_000, 10)), 1_000);
        assert_eq!(ADD.own(0, sight(0, 1_200, 10)), 710);
        // Others grew: some is given back.
        assert_eq!(ADD.own(0, sight(0, 400, 1_000)), 900);
        assert_eq!(ADD.own(0, sight(0, 10, 100)), 0);
    }

    #[test]
    fn in_total_what_others_use_counts() {
        let total = Aim { total: true, ..ADD };
        assert_eq!(total.own(0, sight(300, 9_000, 100)), 800);
        assert_eq!(total.own(0, sight(2_000, 9_000, 100)), 0);
    }

    #[test]
    fn a_leak_grows_with_time_up_to_the_amount() {
        let leak = Aim { rate: Some(100), ..ADD };
        let at = |ms| leak.own(ms, sight(0, 9_000, 0));
        assert_eq!((at(0), at(2_500), at(60_000)), (0, 250, 1_000));
        assert_eq!(leaked(Some(u64::MAX), u64::MAX), u64::MAX);
    }
}
