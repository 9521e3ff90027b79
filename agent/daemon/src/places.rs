//! Where the agent keeps what: every path follows from two directories and the config file; nothing is opened here.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Of the state: nobody but root.
const PRIVATE: u32 = 0o700;

/// The agent's directories. The state survives a reboot, the run directory does not.
#[derive(Debug, Clone)]
pub struct Places {
    pub config: PathBuf,
    pub state_dir: PathBuf,
    pub run_dir: PathBuf,
    /// Below this folder of each control group hierarchy our groups are made; empty for its root.
    pub group_root: PathBuf,
}

impl Places {
    pub fn journal(&self) -> PathBuf {
        self.state_dir.join("journal")
    }

    pub fn journal_mirror(&self) -> PathBuf {
        self.run_dir.join("journal")
    }

    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }

    pub fn heartbeat(&self) -> PathBuf {
        self.run_dir.join("heartbeat")
    }

    /// Held as long as an agent runs, so that there is never a second one.
    pub fn instance_lock(&self) -> PathBuf {
        self.run_dir.join("agent.lock")
    }

    /// Makes the directories that are missing, for root alone.
    pub fn make(&self) -> anyhow::Result<()> {
        for dir in [&self.state_dir, &self.run_dir] {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
            made.with_context(|| format!("make {}", dir.display()))?;
        }
        keep_private(&self.state_dir).with_context(|| format!("keep {} for root", self.state_dir.display()))
    }
}

/// Nothing is changed where nothing has to be: a read-only file system refuses even that, and there must be a way back on it.
fn keep_private(dir: &Path) -> std::io::Result<()> {
    let mode = std::fs::metadata(dir)?.permissions().mode();
    if mode & 0o7777 == PRIVATE {
        return Ok(());
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(PRIVATE))
}
