//! `fracas hosts accept`: a person answers for a dirty host; what is left on it stays.

use clap::Args;
use proto_model::exit;
use proto_wire::v1::AcceptRequest;

use super::calls::{announced, changed};
use crate::client::{Client, DEED};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas hosts accept web --reason 'group removed by hand'";

/// Answer for a dirty host in your name, so that experiments may use it again
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Accept {
    /// The host's name
    host: String,
    /// Why it is good, for the record
    #[arg(long)]
    reason: String,
}

impl Accept {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        if self.reason.trim().is_empty() {
            return Err(Failure::usage("--reason is empty: accepting a host needs its reason"));
        }
        announced(client, console, &self.host).await?;
        let request = AcceptRequest {
            host: self.host,
            reason: self.reason,
        };
        let document = client.call("accept the host", DEED, client.hosts().accept(request)).await?;
        changed(console, &document)?;
        Ok(exit::OK)
    }
}
