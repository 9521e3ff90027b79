//! The body of a disk worker: grows the ballast step by step, and stops where the reserve begins; it makes and removes no file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_levers::work::Filler;
use agent_view::{HostView, ViewError};
use serde::{Deserialize, Serialize};

use crate::fault::FaultError;
use crate::work::WorkControl;

/// Between two looks at the volume.
const EVERY: Duration = Duration::from_millis(100);
/// The most between two looks, where space is allocated and where it must be written.
const STEP: u64 = 4 << 30;
const WRITTEN_STEP: u64 = 16 << 20;

/// The same where it is memory: others may want it meanwhile.
const MEMORY_STEP: u64 = 256 << 20;

/// What a worker is to do, in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Growth {
    pub(super) folder: PathBuf,
    pub(super) bytes: u64,
    pub(super) rate: Option<u64>,
    pub(super) reserve: u64,
    /// Stays available where the volume is memory.
    pub(super) memory_reserve: u64,
}

impl Growth {
    /// What the ballast should have after so long; no bound but the amount without a rate.
    pub(super) fn due(&self, elapsed_ms: u64) -> u64 {
        let grown = |rate: u64| u64::try_from(u128::from(rate) * u128::from(elapsed_ms) / 1_000).unwrap_or(u64::MAX);
        self.bytes.min(self.rate.map_or(u64::MAX, grown))
    }

    /// What may be taken now beyond what is held, and the most of it at once.
    fn room(&self, view: &dyn HostView) -> Result<(u64, u64), ViewError> {
        let Some(volume) = view.volume(&self.folder)? else {
            return Ok((0, 0));
        };
        let room = volume.available.saturating_sub(self.reserve);
        if !volume.is_memory() {
            return Ok((room, STEP));
        }
        let memory = view.memory()?.available.saturating_sub(self.memory_reserve);
        Ok((room.min(memory), MEMORY_STEP))
    }
}

/// The file to grow: one of ours, which was made before.
pub(super) fn open(ballast: &Path) -> Result<File, FaultError> {
    agent_levers::work::open_ballast(ballast).map_err(|e| FaultError::Other(format!("open {}: {e}", ballast.display())))
}

/// Grows `ballast`, then waits until it is told to stop: that it lives says that the fault acts.
pub(super) fn grow(growth: &Growth, ballast: &Path, control: &WorkControl) -> Result<(), FaultError> {
    let view = control.view();
    let failed = |e: std::io::Error| FaultError::Other(format!("fill {}: {e}", ballast.display()));
    let began = view.boot_ms();
    let file = match control.take_file() {
        Some(file) => file,
        None => open(ballast)?,
    };
    let mut filler = Filler::of(file, began).map_err(failed)?;
    while !control.should_stop() {
        let due = growth.due(view.boot_ms().saturating_sub(began));
        let (room, most) = match growth.room(view) {
            // A volume that is late, as one that is being filled may be, is asked again, and so is a host without a descriptor to spare: until
            // there is an answer nothing more is taken.
            Err(error) if error.is_transient() => (0, 0),
            looked => looked?,
        };
        let step = if filler.writes() { WRITTEN_STEP } else { most };
        let next = due.min(filler.filled() + room.min(step));
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
    use agent_levers::fake::FakeHost;
    use agent_view::Memory;

    use super::*;

    #[test]
    fn a_rate_is_kept_and_ends_at_the_amount() {
        let growth = |rate| Growth {
            folder: "/var/tmp".into(),
            bytes: 1_000,
            rate,
            reserve: 0,
            memory_reserve: 0,
        };
        assert_eq!(growth(None).due(0), 1_000);
        assert_eq!(growth(Some(100)).due(2_500), 250);
        assert_eq!(growth(Some(u64::MAX)).due(u64::MAX), 1_000);
    }

    #[test]
    fn both_reserves_are_kept_where_the_volume_is_memory() {
        let host = FakeHost::new();
        let growth = |folder: &str| Growth {
            folder: folder.into(),
            bytes: u64::MAX,
            rate: None,
            reserve: 1 << 20,
            memory_reserve: 5 << 30,
        };
        let available = |folder: &str| host.volume(Path::new(folder)).unwrap().unwrap().available;
        let by_volume = |folder: &str, step| (available(folder) - (1 << 20), step);
        assert_eq!(growth("/var").room(&host).unwrap(), by_volume("/var", STEP));
        assert_eq!(growth("/run").room(&host).unwrap(), by_volume("/run", MEMORY_STEP));
        let memory = host.memory().unwrap();
        host.set_memory(Memory {
            available: (5 << 30) + 7,
            ..memory
        });
        assert_eq!(growth("/run").room(&host).unwrap(), (7, MEMORY_STEP));
        assert_eq!(growth("/var").room(&host).unwrap(), by_volume("/var", STEP));
    }
}
