//! `fracas authority`: what everybody here trusts, and how it gives way to the next; without a verb it shows.

mod rotate;
mod show;
mod view;

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas authority
  fracas authority show --pem > authority.pem
  fracas authority rotate prepare";

/// Show the controller's authority, and rotate it in phases
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Authority {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    show: show::Show,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Show(show::Show),
    Rotate(rotate::Rotate),
}

impl Authority {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        match self.verb.unwrap_or(Verb::Show(self.show)) {
            Verb::Show(verb) => verb.run(&client, console).await,
            Verb::Rotate(verb) => verb.run(&client, console).await,
        }
    }
}
