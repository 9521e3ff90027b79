//! The newest halt and store epochs that this host has seen, on disk, so that an older controller cannot order after a restart.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use proto_transport::replace_private;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Epochs {
    pub halt: u64,
    pub store: u64,
}

impl Epochs {
    pub fn newest(self, other: Self) -> Self {
        Self {
            halt: self.halt.max(other.halt),
            store: self.store.max(other.store),
        }
    }
}

/// Epochs that only grow.
pub(crate) struct EpochFile {
    path: PathBuf,
    seen: Epochs,
}

impl EpochFile {
    /// A record that cannot be read is reported and counts as none: without it every order would be refused for ever.
    pub fn open(path: PathBuf) -> Self {
        let seen = read(&path).unwrap_or_else(|why| {
            tracing::error!(path = %path.display(), why, "the epochs seen cannot be read; older orders are not recognised until newer ones come");
            Epochs::default()
        });
        Self { path, seen }
    }

    pub fn seen(&self) -> Epochs {
        self.seen
    }

    /// Remembers what is newer; on disk when it returns, as far as the disk allows.
    pub fn saw(&mut self, epochs: Epochs) {
        let newest = self.seen.newest(epochs);
        if newest == self.seen {
            return;
        }
        self.seen = newest;
        let text = serde_json::to_vec(&newest).unwrap_or_default();
        if let Err(error) = replace_private(&self.path, &text) {
            tracing::error!(path = %self.path.display(), %error, "the epochs seen cannot be written");
        }
    }
}

fn read(path: &Path) -> Result<Epochs, String> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| e.to_string()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Epochs::default()),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_only_grow_and_survive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epochs.json");
        let mut file = EpochFile::open(path.clone());
        file.saw(Epochs { halt: 3, store: 7 });
        file.saw(Epochs { halt: 5, store: 2 });
        assert_eq!(EpochFile::open(path.clone()).seen(), Epochs { halt: 5, store: 7 });
        std::fs::write(&path, "{").unwrap();
        assert_eq!(EpochFile::open(path).seen(), Epochs::default());
    }
}
