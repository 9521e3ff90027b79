//! The users that this agent's processes become, as the host's rules name them.

use agent_privileges::{Account, AccountError};
use agent_warden::Policy;

use crate::paths::Paths;

/// Of whatever reads from the network.
pub fn session(policy: &Policy) -> Result<Account, AccountError> {
    Account::find("users.session", &policy.users.session)
}

/// Of whatever loads the host.
pub fn workers(policy: &Policy) -> Result<Account, AccountError> {
    Account::find("users.workers", &policy.users.workers)
}

/// For those that must undo whatever the rules are now: without rules that can be read, no user is a worker's.
pub fn workers_if_known(paths: &Paths) -> Option<Account> {
    let policy = Policy::load(&paths.config, &agent_faults::catalogue()).ok()?;
    workers(&policy).ok()
}
