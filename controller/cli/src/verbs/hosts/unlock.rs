//! `fracas hosts unlock`: gives a locked identity back what it may do.

use clap::Args;

use super::lock::set;
use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas hosts unlock web --reason 'enrolled again with a new key'";

/// Unlock a host's identity
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Unlock {
    /// The host's name
    host: String,
    /// Why, for the record
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

impl Unlock {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        set(client, console, self.host, false, self.reason).await
    }
}
