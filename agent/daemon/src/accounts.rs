//! The users that this agent's processes become, as the host's rules name them and /etc/passwd numbers them.
//!
//! No directory is asked, such as LDAP through sssd: a fault may hold what answers, and whoever undoes that fault would wait for it.

use agent_privileges::Account;
use agent_probes::{Commands, RunAs};
use agent_view::{User, Users, ViewError};
use agent_warden::Policy;
use anyhow::{Context, ensure};
use nix::unistd::{Gid, Uid};

use crate::paths::Paths;

/// Of whatever reads from the network.
pub fn session(policy: &Policy) -> anyhow::Result<Account> {
    account("users.session", &policy.users.session, Users::read())
}

/// Of whatever loads the host.
pub fn workers(policy: &Policy) -> anyhow::Result<Account> {
    account("users.workers", &policy.users.workers, Users::read())
}

/// For those that must undo whatever the rules are now: without rules and a list of users that can be read, no user is a worker's.
pub fn workers_if_known(paths: &Paths) -> Option<Account> {
    let policy = Policy::load(&paths.config, &agent_faults::catalogue()).ok()?;
    let found = workers(&policy);
    if let Err(error) = &found {
        let error = format!("{error:#}");
        tracing::warn!(
            error,
            "the undo goes on, and its proof does not look for workers outside of their groups"
        );
    }
    found.ok()
}

/// What the host's rules offer to probes. The user of programs is looked up only where there are programs.
pub fn commands(policy: &Policy) -> Commands {
    commands_by(policy, Users::read)
}

fn commands_by(policy: &Policy, users: impl FnOnce() -> Result<Users, ViewError>) -> Commands {
    let (directory, name) = (&policy.probes.commands, &policy.probes.user);
    if directory.as_os_str().is_empty() {
        return Commands::none();
    }
    if name.is_empty() {
        return Commands::of(directory.clone(), Ok(RunAs::Ourselves));
    }
    let rights = match user("probes.user", name, users()) {
        Ok(User { uid, gid }) => Ok(RunAs::User { uid, gid }),
        Err(error) => Err(format!("{error:#}")),
    };
    Commands::of(directory.clone(), rights)
}

/// Nothing runs with more rights where there is no such user. `key` is where the rules name it.
fn account(key: &str, name: &str, users: Result<Users, ViewError>) -> anyhow::Result<Account> {
    let User { uid, gid } = user(key, name, users)?;
    ensure!(
        uid != 0 && gid != 0,
        "{key} in agent.toml: {name:?} is root, or of root's group; name a user without rights of its own"
    );
    Ok(Account {
        uid: Uid::from_raw(uid),
        gid: Gid::from_raw(gid),
    })
}

fn user(key: &str, name: &str, users: Result<Users, ViewError>) -> anyhow::Result<User> {
    let users =
        users.with_context(|| format!("{key} in agent.toml: look up the user {name:?} in a file that must be there and readable"))?;
    users.by_name(name).with_context(|| {
        format!(
            "{key} in agent.toml: this host has no user {name:?} in /etc/passwd or /usr/lib/passwd, and one that only LDAP or another directory \
             knows does not count (name another then); make it: useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {name}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "root:x:0:0:root:/root:/bin/sh\n+directory::::::\nwheel:x:7:0::/:\nfracas:x:981:980::/:/usr/sbin/nologin\n";

    fn found(name: &str) -> Result<Account, String> {
        account("users.session", name, Ok(Users::parse(LIST))).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_user_is_as_the_list_of_this_host_numbers_it() {
        let account = found("fracas").unwrap();
        assert_eq!((account.uid.as_raw(), account.gid.as_raw()), (981, 980));
    }

    #[test]
    fn root_and_users_of_its_group_are_refused_with_the_key() {
        for name in ["root", "wheel"] {
            let error = found(name).unwrap_err();
            assert!(
                error.starts_with(&format!("users.session in agent.toml: {name:?} is root")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_user_that_only_a_directory_may_know_is_refused_with_the_fix() {
        for name in ["no-such-user", "directory", "+directory"] {
            let error = found(name).unwrap_err();
            assert!(error.contains("LDAP or another directory"), "{error}");
            assert!(error.contains("useradd --system") && error.ends_with(name), "{error}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_read_is_named() {
        let unreadable = ViewError::new("/etc/passwd", std::io::Error::from_raw_os_error(13));
        let error = format!("{:#}", account("users.workers", "fracas", Err(unreadable)).unwrap_err());
        assert!(
            error.starts_with("users.workers in agent.toml: look up the user \"fracas\""),
            "{error}"
        );
        assert!(error.contains("read /etc/passwd: Permission denied"), "{error}");
    }

    #[test]
    fn no_user_is_looked_up_for_programs_that_are_not_offered() {
        let asked = |commands: &str, user: &str| {
            let mut policy = Policy::default();
            policy.probes.commands = commands.into();
            policy.probes.user = user.to_owned();
            let mut asked = false;
            drop(commands_by(&policy, || {
                asked = true;
                Ok(Users::parse(LIST))
            }));
            asked
        };
        assert!(!asked("", "nobody") && !asked("/opt/probes", ""));
        assert!(asked("/opt/probes", "nobody"));
    }
}
