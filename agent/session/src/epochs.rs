//! The newest epochs this host has seen, kept across restarts: an order that is older comes from a past that is over.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::SessionError;
use crate::identity::write_private;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    halt: u64,
    store: u64,
}

/// In `epochs.json` below the agent's state.
#[derive(Debug)]
pub(crate) struct Epochs {
    path: PathBuf,
    seen: Seen,
}

impl Epochs {
    /// None, or one that cannot be read, begins at zero: then every order is new enough, as on a new host.
    pub fn open(state_dir: &Path) -> Self {
        let path = state_dir.join("epochs.json");
        let seen = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), error = %error, "the epochs seen cannot be read and begin again");
                Seen::default()
            }),
            Err(_) => Seen::default(),
        };
        Self { path, seen }
    }

    pub fn halt(&self) -> u64 {
        self.seen.halt
    }

    pub fn store(&self) -> u64 {
        self.seen.store
    }

    /// The name of what is too old, or takes both as the newest and keeps them.
    pub fn take(&mut self, halt: u64, store: u64) -> Result<Option<&'static str>, SessionError> {
        if halt < self.seen.halt {
            return Ok(Some("stale_halt_epoch"));
        }
        if store < self.seen.store {
            return Ok(Some("stale_store_epoch"));
        }
        let newer = Seen { halt, store };
        if newer != self.seen {
            write_private(&self.path, &serde_json::to_vec(&newer).unwrap_or_default())?;
            self.seen = newer;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_anything_seen_is_named_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut epochs = Epochs::open(dir.path());
        assert_eq!(epochs.take(3, 7).unwrap(), None);
        let mut epochs = Epochs::open(dir.path());
        assert_eq!(epochs.take(2, 7).unwrap(), Some("stale_halt_epoch"));
        assert_eq!(epochs.take(3, 6).unwrap(), Some("stale_store_epoch"));
        assert_eq!(epochs.take(3, 7).unwrap(), None);
    }
}
