//! The controller's wall clock as a session shows it, carried on by a clock that nobody sets: certificates are judged by it, not by the host's.

use std::time::Duration;

use proto_model::time::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

/// How far a host's clock may be off before it is said.
pub(crate) const TOLERATED_OFFSET_MS: i64 = 5_000;

#[derive(Clone)]
pub(crate) struct ControllerClock(watch::Sender<Option<(Timestamp, Instant)>>);

impl ControllerClock {
    /// Not known before the controller has said it.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// What the controller's clock shows now.
    pub fn set(&self, shown: Timestamp) {
        self.0.send_replace(Some((shown, Instant::now())));
    }

    /// Waits until the controller has shown its clock at least once.
    pub async fn now(&self) -> Timestamp {
        let mut shown = self.0.subscribe();
        let known = shown.wait_for(Option::is_some).await.ok().and_then(|known| *known);
        // The sender lives in this very clock, so that there is always an answer.
        let (at_that_time, then) = known.unwrap_or((Timestamp(0), Instant::now()));
        at_that_time.plus_ms(ms(then.elapsed()))
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How far the host's clock is ahead of the controller's, where that is worth a word.
pub(crate) fn offset_ms(host: Timestamp, controller: Timestamp) -> Option<i64> {
    let offset = host.0.saturating_sub(controller.0);
    (offset.saturating_abs() > TOLERATED_OFFSET_MS).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_goes_on_from_what_the_controller_showed() {
        let clock = ControllerClock::new();
        let waits = clock.clone();
        let waiting = tokio::spawn(async move { waits.now().await });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished(), "the time is not known before the controller has shown it");
        clock.set(Timestamp(1_000));
        let first = waiting.await.unwrap();
        assert!((1_000..60_000).contains(&first.0), "{first:?}");
        let later = async {
            while clock.now().await <= first {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), later)
            .await
            .expect("the clock goes on");
    }

    #[test]
    fn a_small_offset_is_not_worth_a_word() {
        assert_eq!(offset_ms(Timestamp(6_000), Timestamp(1_000)), None);
        assert_eq!(offset_ms(Timestamp(72_000_000), Timestamp(0)), Some(72_000_000));
        assert_eq!(offset_ms(Timestamp(0), Timestamp(9_000)), Some(-9_000));
    }
}
