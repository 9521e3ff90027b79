//! `fracas hosts lock`: a host's identity may do nothing any more; what acts on it ends by its lease.

use clap::Args;
use proto_model::exit;
use proto_wire::v1::LockRequest;

use super::calls::{announced, changed};
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas hosts lock web --reason 'its key was copied'";

/// Lock a host's identity: its session ends at once, and it gets no other until it is unlocked
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Lock {
    /// The host's name
    host: String,
    /// Why, for the record
    #[arg(long)]
    reason: String,
}

impl Lock {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        if self.reason.trim().is_empty() {
            return Err(Failure::usage("--reason is empty: locking a host needs its reason"));
        }
        set(client, console, self.host, true, self.reason).await
    }
}

/// Locks or unlocks a host.
pub async fn set(client: &Client, console: &mut Console, host: String, locked: bool, reason: String) -> Result<u8, Failure> {
    announced(client, console, &host).await?;
    let deed = if locked { "lock the host" } else { "unlock the host" };
    let request = LockRequest { host, locked, reason };
    let document = client.call(deed, ASK, client.hosts().lock(request)).await?;
    changed(console, &document)?;
    Ok(exit::OK)
}
