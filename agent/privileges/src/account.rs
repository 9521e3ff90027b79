//! A system user that the agent's unprivileged processes run as.

use nix::unistd::{Gid, Uid};

/// A user of this host that is not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub uid: Uid,
    pub gid: Gid,
}
