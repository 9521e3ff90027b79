//! The halt latch: in memory, and in a file beside the store. What cannot be read counts as halted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use proto_model::halt::HaltState;
use proto_model::time::Timestamp;
use proto_transport::replace_private;

/// Epochs from here on are nobody's: an agent that claims one is not believed, so that it cannot use them up.
const LAST_CREDIBLE_EPOCH: u64 = 1 << 53;

/// The latch of this controller; the newest epoch wins.
#[derive(Debug)]
pub struct HaltLatch {
    path: PathBuf,
    state: Mutex<HaltState>,
}

impl HaltLatch {
    /// Reads the file; none means released, an unreadable one means halted. `stored` is what the store remembers.
    pub fn open(path: &Path, stored: HaltState) -> Self {
        let read = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| unreadable(path, &stored, &e.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => HaltState::released(),
            Err(error) => unreadable(path, &stored, &error.to_string()),
        };
        Self {
            path: path.to_owned(),
            state: Mutex::new(stored.newest(read)),
        }
    }

    /// What a host knows of a newer halt than any record here. It can engage the latch, and never release it.
    pub(crate) fn hear(&self, epoch: u64, halted: bool, reason: &str, host: &str, now: Timestamp) -> Option<HaltState> {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if epoch <= held.epoch || epoch >= LAST_CREDIBLE_EPOCH {
            return None;
        }
        held.epoch = epoch;
        // The first reason stays.
        if halted && !held.engaged {
            *held = HaltState {
                epoch,
                engaged: true,
                by: format!("host {host}"),
                reason: format!("{host} holds a newer halt than any record of the controller: {reason}"),
                at: now,
            };
        }
        Some(held.clone())
    }

    pub fn get(&self) -> HaltState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// In force at once, in memory; then on disk. An older epoch changes nothing.
    pub fn set(&self, state: HaltState) -> io::Result<()> {
        {
            let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.epoch < held.epoch {
                return Ok(());
            }
            *held = state.clone();
        }
        replace_private(&self.path, &serde_json::to_vec(&state)?)
    }
}

fn unreadable(path: &Path, stored: &HaltState, why: &str) -> HaltState {
    let reason = format!("{} cannot be read ({why}); release to go on", path.display());
    stored.engage("controller", &reason, Timestamp(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_restart_and_an_unreadable_file_is_a_halt() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("halted");
        let latch = HaltLatch::open(&path, HaltState::released());
        assert!(!latch.get().engaged);
        latch.set(latch.get().engage("root@local", "drill", Timestamp(5))).unwrap();
        assert_eq!(HaltLatch::open(&path, HaltState::released()).get().reason, "drill");
        fs::write(&path, "{").unwrap();
        let latch = HaltLatch::open(&path, HaltState::released());
        assert!(latch.get().engaged && latch.get().reason.contains("cannot be read"));
    }

    #[test]
    fn a_host_can_engage_but_never_release_nor_use_up_the_epochs() {
        let dir = tempfile::tempdir().unwrap();
        let latch = HaltLatch::open(&dir.path().join("halted"), HaltState::released());
        assert_eq!(latch.hear(u64::MAX, true, "", "evil", Timestamp(1)), None);
        let heard = latch.hear(7, true, "smoke", "web", Timestamp(1)).unwrap();
        assert!(heard.engaged && heard.epoch == 7 && heard.reason.contains("smoke"), "{heard:?}");
        let still = latch.hear(9, false, "", "evil", Timestamp(2)).unwrap();
        assert!(still.engaged && still.epoch == 9 && still.by == "host web", "{still:?}");
        assert_eq!(latch.hear(9, false, "", "evil", Timestamp(3)), None);
    }

    #[test]
    fn an_older_epoch_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let latch = HaltLatch::open(&dir.path().join("halted"), HaltState::released());
        let engaged = latch.get().engage("a", "b", Timestamp(0));
        latch.set(engaged.clone()).unwrap();
        latch.set(HaltState::released()).unwrap();
        assert_eq!(latch.get(), engaged);
    }
}
