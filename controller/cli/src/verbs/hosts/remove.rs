//! `fracas hosts remove`: a host that is gone for good leaves the fleet; what it did stays on record.

use clap::Args;
use proto_model::exit;
use proto_wire::v1::RemoveHostRequest;

use super::calls::{announced, read};
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas hosts remove web --reason 'replaced by web-2'
  fracas hosts remove web --reason 'the machine burned down' --force";

/// Remove a host from the fleet: its identity may do nothing any more, and its name is free
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Remove {
    /// The host's name
    host: String,
    /// Why, for the record
    #[arg(long)]
    reason: String,
    /// Even while it has active injections or has not proven that it is clean
    #[arg(long)]
    force: bool,
}

impl Remove {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        if self.reason.trim().is_empty() {
            return Err(Failure::usage("--reason is empty: removing a host needs its reason"));
        }
        announced(client, console, &self.host).await?;
        let request = RemoveHostRequest {
            host: self.host,
            reason: self.reason,
            force: self.force,
        };
        let document = client.call("remove the host", ASK, client.hosts().remove(request)).await?;
        let (value, host) = read(&document)?;
        console.document(&value, host.name.as_str(), |console| {
            console.line(&format!("host {} is removed; its runs stay on record", host.name));
            Ok(())
        })?;
        Ok(exit::OK)
    }
}
