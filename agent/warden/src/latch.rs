//! The two halts an agent knows, its host's own and its controller's, kept in files so that a restart changes neither.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::handle::{HaltLatch, Halted};

/// A reason longer than this is cut: it is for people.
const REASON_MAX: usize = 500;

/// The controller's halt as this agent last heard it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FromController {
    epoch: u64,
    engaged: bool,
    reason: String,
}

/// Both latches. What cannot be read counts as engaged.
pub struct Latches {
    host_file: PathBuf,
    controller_file: PathBuf,
    controller: FromController,
    /// Engaged although its file could not be written.
    host_unwritten: Option<String>,
}

impl Latches {
    pub fn open(state_dir: &Path) -> Self {
        let controller_file = state_dir.join("halt.json");
        let controller = match std::fs::read(&controller_file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| unreadable(&e.to_string())),
            Err(e) if e.kind() == ErrorKind::NotFound => FromController::default(),
            Err(e) => unreadable(&e.to_string()),
        };
        Self {
            host_file: state_dir.join("halted"),
            controller_file,
            controller,
            host_unwritten: None,
        }
    }

    pub fn epoch(&self) -> u64 {
        self.controller.epoch
    }

    /// Why nothing may start, if so. The host's file is looked at each time: it works without this process.
    pub fn engaged(&self) -> Option<Halted> {
        if let Some(reason) = self.host_reason() {
            let latch = HaltLatch::Host;
            return Some(Halted { latch, reason });
        }
        self.controller.engaged.then(|| Halted {
            latch: HaltLatch::Controller,
            reason: self.controller.reason.clone(),
        })
    }

    fn host_reason(&self) -> Option<String> {
        if let Some(reason) = &self.host_unwritten {
            return Some(reason.clone());
        }
        match std::fs::read_to_string(&self.host_file) {
            Ok(text) => Some(text.trim().chars().take(REASON_MAX).collect()),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => Some(format!("{} cannot be read: {e}", self.host_file.display())),
        }
    }

    /// A newer word of the controller; an older epoch changes nothing. True when it was taken.
    pub fn controller_says(&mut self, epoch: u64, engaged: bool, reason: &str) -> bool {
        if epoch < self.controller.epoch {
            return false;
        }
        let reason = reason.chars().take(REASON_MAX).collect();
        self.controller = FromController { epoch, engaged, reason };
        let text = serde_json::to_vec(&self.controller).unwrap_or_default();
        if let Err(error) = write_whole(&self.controller_file, &text) {
            tracing::error!(%error, "the controller's halt cannot be written");
        }
        true
    }

    pub fn engage_host(&mut self, reason: &str) {
        if let Err(error) = engage_host_file(&self.host_file, reason) {
            tracing::error!(%error, "the host's halt cannot be written");
            self.host_unwritten = Some(reason.to_owned());
        }
    }

    pub fn release_host(&mut self) -> std::io::Result<()> {
        self.host_unwritten = None;
        release_host_file(&self.host_file)
    }
}

fn unreadable(why: &str) -> FromController {
    FromController {
        epoch: 0,
        engaged: true,
        reason: format!("the record of the last halt cannot be read: {why}"),
    }
}

/// Where the host's latch lies, for the commands that work without the daemon.
pub fn host_latch(state_dir: &Path) -> PathBuf {
    state_dir.join("halted")
}

/// Engages the host's latch without anybody's help.
pub fn engage_host_file(file: &Path, reason: &str) -> std::io::Result<()> {
    write_whole(file, reason.as_bytes())
}

/// Releases it; not engaged is success.
pub fn release_host_file(file: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// All or nothing, and on the disk before it returns.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = std::fs::File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    // The new name is on the disk only with its folder.
    std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_changes_neither_latch() {
        let dir = tempfile::tempdir().unwrap();
        let mut latches = Latches::open(dir.path());
        assert_eq!(latches.engaged(), None);
        assert!(latches.controller_says(3, true, "fire"));
        let again = Latches::open(dir.path());
        assert_eq!((again.epoch(), again.engaged().unwrap().latch), (3, HaltLatch::Controller));
        latches.engage_host("maintenance");
        assert_eq!(Latches::open(dir.path()).engaged().unwrap().reason, "maintenance");
        latches.release_host().unwrap();
        latches.release_host().unwrap();
        assert_eq!(Latches::open(dir.path()).engaged().unwrap().latch, HaltLatch::Controller);
    }

    #[test]
    fn an_older_word_of_the_controller_is_not_heard() {
        let dir = tempfile::tempdir().unwrap();
        let mut latches = Latches::open(dir.path());
        latches.controller_says(5, true, "fire");
        assert!(!latches.controller_says(4, false, ""));
        assert!(latches.engaged().is_some());
        assert!(latches.controller_says(6, false, ""));
        assert!(latches.engaged().is_none());
    }

    #[test]
    fn no_word_of_the_controller_ends_the_hosts_own_halt() {
        let dir = tempfile::tempdir().unwrap();
        let mut latches = Latches::open(dir.path());
        latches.engage_host("maintenance");
        assert!(latches.controller_says(u64::MAX, false, ""));
        assert_eq!(latches.engaged().unwrap().latch, HaltLatch::Host);
    }

    #[test]
    fn what_cannot_be_read_counts_as_halted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("halt.json"), "{").unwrap();
        assert!(Latches::open(dir.path()).engaged().is_some());
    }
}
