//! `fracas faults`: what the hosts can do, in the faults' own words; without a verb it lists.

mod explain;
pub mod fault;
mod list;

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas faults
  fracas faults list blackhole
  fracas faults explain network.partition";

/// List and explain faults
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Faults {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    Explain(explain::Explain),
}

impl Faults {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        match self.verb.unwrap_or(Verb::List(self.list)) {
            Verb::List(verb) => verb.run(&client, console).await,
            Verb::Explain(verb) => verb.run(&client, console).await,
        }
    }
}
