//! The system users that the agent's unprivileged processes run as, as the host knows them.

use nix::unistd::{Gid, Uid, User};

/// A user of this host that is not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub uid: Uid,
    pub gid: Gid,
}

/// Why a user that the host's rules name cannot be used. Nothing runs with more rights instead.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error(
        "{key} in agent.toml: this host has no user {name:?}; make it: useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {name}"
    )]
    Missing { key: &'static str, name: String },
    #[error("{key} in agent.toml: {name:?} is root, or of root's group; name a user without rights of its own")]
    Root { key: &'static str, name: String },
    #[error("{key} in agent.toml: look up the user {name:?}")]
    LookUp {
        key: &'static str,
        name: String,
        #[source]
        source: nix::Error,
    },
}

impl Account {
    /// `key` is where the host's rules name the user, for messages.
    pub fn find(key: &'static str, name: &str) -> Result<Self, AccountError> {
        let name = name.to_owned();
        match User::from_name(&name) {
            Ok(Some(user)) if user.uid.is_root() || user.gid.as_raw() == 0 => Err(AccountError::Root { key, name }),
            Ok(Some(user)) => Ok(Self {
                uid: user.uid,
                gid: user.gid,
            }),
            Ok(None) => Err(AccountError::Missing { key, name }),
            Err(source) => Err(AccountError::LookUp { key, name, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_users_that_do_not_exist_are_refused_with_the_key() {
        let error = Account::find("users.session", "root").unwrap_err().to_string();
        assert!(error.starts_with("users.session in agent.toml: \"root\" is root"), "{error}");
        let error = Account::find("users.workers", "no-such-user").unwrap_err().to_string();
        assert!(error.contains("useradd --system") && error.ends_with("no-such-user"), "{error}");
        assert!(Account::find("users.session", "nobody").is_ok_and(|account| account.uid.as_raw() != 0));
    }
}
