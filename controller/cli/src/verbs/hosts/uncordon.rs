//! `fracas hosts uncordon`: opens a host to experiments again.

use clap::Args;

use super::cordon::set;
use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas hosts uncordon web";

/// Open a host to experiments again
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Uncordon {
    /// The host's name
    host: String,
    /// Why, for the record
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

impl Uncordon {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        set(client, console, &self.host, false, self.reason).await
    }
}
