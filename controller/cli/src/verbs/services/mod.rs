//! `fracas services`: what is tested and by whose word; without a verb it lists.

mod apply;
mod list;
mod remove;
mod show;
mod view;

use clap::{Args, Subcommand};

use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas services
  fracas services apply checkout-service.yaml
  fracas services show checkout
  fracas services remove checkout";

/// Apply, list, show and remove services
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Services {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Apply(apply::Apply),
    List(list::List),
    Show(show::Show),
    Remove(remove::Remove),
}

impl Services {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        match self.verb.unwrap_or(Verb::List(self.list)) {
            Verb::Apply(verb) => verb.run(globals, console).await,
            Verb::List(verb) => verb.run(globals, console).await,
            Verb::Show(verb) => verb.run(globals, console).await,
            Verb::Remove(verb) => verb.run(globals, console).await,
        }
    }
}
