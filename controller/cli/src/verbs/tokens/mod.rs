//! `fracas tokens`: what lets new hosts join; without a verb it lists.

mod create;
mod list;
mod revoke;
mod view;

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas tokens create --label env=staging --uses 10 --ttl 1h
  fracas tokens
  fracas tokens revoke 7h2k9w3f8v1q0abc";

/// Create, list and revoke join tokens
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Tokens {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::Create),
    List(list::List),
    Revoke(revoke::Revoke),
}

impl Tokens {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        match self.verb.unwrap_or(Verb::List(list::List {})) {
            Verb::Create(verb) => verb.run(&client, console).await,
            Verb::List(verb) => verb.run(&client, console).await,
            Verb::Revoke(verb) => verb.run(&client, console).await,
        }
    }
}
