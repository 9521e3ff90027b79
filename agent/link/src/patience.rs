//! How long one thread may wait for others in all: a share of its time, whatever they answer.

use std::time::{Duration, Instant};

/// The most that can be waited at a stretch.
const MOST: Duration = Duration::from_secs(3);
/// Of the time that goes by, the share that may be waited: with the stretch above at most 6 s in any 10 s, before a guardian takes the waiting
/// thread for hung.
const SHARE: f64 = 0.3;
/// Less than this is no use to anybody who has to answer.
const LEAST: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Patience {
    left: Duration,
    since: Instant,
}

impl Patience {
    pub fn full(now: Instant) -> Self {
        Self { left: MOST, since: now }
    }

    /// How long may be waited now, at most `wanted`; `None` when the patience is used up.
    pub fn allows(&mut self, wanted: Duration, now: Instant) -> Option<Duration> {
        let regained = now.saturating_duration_since(self.since).mul_f64(SHARE);
        self.left = (self.left + regained).min(MOST);
        self.since = now;
        (self.left >= LEAST).then(|| wanted.min(self.left))
    }

    pub fn spend(&mut self, waited: Duration, now: Instant) {
        self.left = self.left.saturating_sub(waited);
        self.since = now;
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::full(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Duration = Duration::from_millis(1_500);

    #[test]
    fn waits_take_six_of_ten_seconds_at_most_however_often_they_are_tried() {
        let begin = Instant::now();
        let (mut now, mut waited) = (begin, Duration::ZERO);
        let mut patience = Patience::full(begin);
        while now < begin + Duration::from_secs(10) {
            match patience.allows(WANTED, now) {
                Some(wait) => {
                    now += wait;
                    waited += wait;
                    patience.spend(wait, now);
                }
                None => now += Duration::from_millis(10),
            }
        }
        assert!((Duration::from_secs(4)..=Duration::from_secs(6)).contains(&waited), "{waited:?}");
    }

    #[test]
    fn quick_answers_are_always_waited_for() {
        let mut now = Instant::now();
        let mut patience = Patience::full(now);
        for _ in 0..10_000 {
            assert_eq!(patience.allows(WANTED, now), Some(WANTED));
            now += Duration::from_micros(500);
            patience.spend(Duration::from_micros(500), now);
            now += Duration::from_millis(2);
        }
    }
}
