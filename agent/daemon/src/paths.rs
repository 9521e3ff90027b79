//! Where the agent keeps what: every path follows from two directories and the config file; nothing is opened here.

use std::path::PathBuf;

use crate::own_folder;

/// The agent's directories. The state survives a reboot, the run directory does not.
#[derive(Debug, Clone)]
pub struct Paths {
    pub config: PathBuf,
    pub state_dir: PathBuf,
    pub run_dir: PathBuf,
    /// Below this folder of each control group hierarchy our groups are made; empty for its root.
    pub group_root: PathBuf,
}

impl Paths {
    pub fn journal(&self) -> PathBuf {
        self.state_dir.join("journal")
    }

    pub fn journal_mirror(&self) -> PathBuf {
        self.run_dir.join("journal")
    }

    /// The session's, whose user alone may enter it.
    pub fn identity(&self) -> PathBuf {
        self.state_dir.join("identity")
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

    /// Makes the directories that are missing, for root alone, and refuses those that another user could change.
    pub fn make(&self) -> anyhow::Result<()> {
        own_folder::prepare(&self.state_dir)?;
        own_folder::prepare(&self.run_dir)
    }
}
