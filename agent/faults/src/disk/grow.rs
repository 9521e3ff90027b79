//! The body of a disk worker: grows the ballast step by step, and stops where the reserve begins; it makes and removes no file.

use std::path::Path;
use std::time::Duration;

use agent_levers::work::Filler;

use crate::fault::FaultError;
use crate::work::WorkControl;

/// Between two looks at the volume.
const EVERY: Duration = Duration::from_millis(100);
/// The most between two looks, where space is allocated and where it must be written.
const STEP: u64 = 4 << 30;
const WRITTEN_STEP: u64 = 16 << 20;

/// What was asked for, in bytes.
pub(super) struct Growth {
    pub(super) bytes: u64,
    pub(super) rate: Option<u64>,
    pub(super) reserve: u64,
}

impl Growth {
    /// What the ballast should have after so long; no bound but the amount without a rate.
    pub(super) fn due(&self, elapsed_ms: u64) -> u64 {
        let grown = |rate: u64| u64::try_from(u128::from(rate) * u128::from(elapsed_ms) / 1_000).unwrap_or(u64::MAX);
        self.bytes.min(self.rate.map_or(u64::MAX, grown))
    }
}

/// Grows `ballast` in `folder`, then waits until it is told to stop: that it lives says that the fault acts.
pub(super) fn grow(growth: &Growth, folder: &Path, ballast: &Path, control: &WorkControl) -> Result<(), FaultError> {
    let view = control.view();
    let failed = |e: std::io::Error| FaultError::Other(format!("fill {}: {e}", ballast.display()));
    let began = view.boot_ms();
    let mut filler = Filler::open(ballast, began).map_err(failed)?;
    while !control.should_stop() {
        let due = growth.due(view.boot_ms().saturating_sub(began));
        let available = view.volume(folder)?.map_or(0, |volume| volume.available);
        let room = filler.filled() + available.saturating_sub(growth.reserve);
        let step = if filler.writes() { WRITTEN_STEP } else { STEP };
        let next = due.min(room).min(filler.filled() + step);
        let grows = next > filler.filled();
        if grows {
            filler.grow_to(next).map_err(failed)?;
        }
        if !grows || growth.rate.is_some() {
            std::thread::sleep(EVERY);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_ends_at_the_amount() {
        let growth = |rate| Growth {
            bytes: 1_000,
            rate,
            reserve: 0,
        };
        assert_eq!(growth(None).due(0), 1_000);
        assert_eq!(growth(Some(100)).due(2_500), 250);
        assert_eq!(growth(Some(u64::MAX)).due(u64::MAX), 1_000);
    }
}
