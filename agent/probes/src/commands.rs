//! The programs that a host's policy offers to probes, and whose rights they have. It runs none.

use std::path::PathBuf;
use std::sync::Arc;

use nix::unistd::User;

use crate::running::As;

/// What the host's policy offers; nothing unless it names a directory.
#[derive(Debug, Clone)]
pub struct Commands(Arc<Offer>);

#[derive(Debug)]
pub(crate) enum Offer {
    Nothing,
    /// A directory and, unless it is our own, whose rights the programs have.
    Programs {
        directory: PathBuf,
        rights: As,
    },
    /// The policy names a user that this host does not know.
    NoUser(String),
}

impl Commands {
    /// `directory` empty: none. `user` empty: programs have this process's own rights.
    pub fn of(directory: PathBuf, user: &str) -> Self {
        Self(Arc::new(match rights_of(user) {
            _ if directory.as_os_str().is_empty() => Offer::Nothing,
            Ok(rights) => Offer::Programs { directory, rights },
            Err(why) => Offer::NoUser(why),
        }))
    }

    pub fn none() -> Self {
        Self(Arc::new(Offer::Nothing))
    }

    pub(crate) fn offer(&self) -> &Offer {
        &self.0
    }
}

fn rights_of(user: &str) -> Result<As, String> {
    if user.is_empty() {
        return Ok(As::Ourselves);
    }
    match User::from_name(user) {
        Ok(Some(user)) => Ok(As::User {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }),
        Ok(None) => Err(format!("probes.user in agent.toml: this host has no user {user:?}")),
        Err(error) => Err(format!("probes.user in agent.toml: look up {user:?}: {error}")),
    }
}
