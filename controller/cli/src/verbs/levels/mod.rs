//! `fracas levels`: how resilient a service has been shown to be; computed by the controller, never typed. Without a verb it shows all.

mod calls;
mod show;
mod view;
mod why;

use clap::{Args, Subcommand};

use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas levels
  fracas levels show checkout
  fracas levels why checkout 3";

/// Show the levels of services, and why they are not higher
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Levels {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    show: show::Show,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(alias = "list")]
    Show(show::Show),
    Why(why::Why),
}

impl Levels {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        match self.verb.unwrap_or(Verb::Show(self.show)) {
            Verb::Show(verb) => verb.run(globals, console).await,
            Verb::Why(verb) => verb.run(globals, console).await,
        }
    }
}
