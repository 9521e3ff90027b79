//! How long to wait before the next try: full jitter, so that a fleet does not come back all at once.

use std::time::Duration;

const FIRST_MS: u64 = 200;
const LONGEST_MS: u64 = 30_000;

/// Waits between 0.2 s and an upper bound that doubles from 0.4 s to 30 s.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    pub fn next_wait(&mut self) -> Duration {
        let bound = (FIRST_MS << (self.tries + 1).min(10)).min(LONGEST_MS);
        self.tries += 1;
        Duration::from_millis(rand::random_range(FIRST_MS..=bound))
    }

    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_is_within_its_bounds() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            let wait = backoff.next_wait();
            assert!(wait >= Duration::from_millis(FIRST_MS) && wait <= Duration::from_millis(LONGEST_MS));
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(400));
    }
}
