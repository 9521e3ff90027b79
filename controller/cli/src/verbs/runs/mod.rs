//! `fracas runs`: the history of runs; without a verb it lists.

mod events;
mod list;
mod report;
mod show;
mod watch;

use clap::{Args, Subcommand};

use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas runs
  fracas runs show @last
  fracas runs watch 7h2k9w
  fracas runs report @last > report.md
  fracas runs events @last -o jsonl";

/// Every verb of the noun, for its singular spelling.
pub const VERBS: [&str; 5] = ["list", "show", "watch", "report", "events"];

/// List, show, watch and report runs
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Runs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    Show(show::Show),
    Watch(watch::Watch),
    Report(report::Report),
    Events(events::Events),
}

impl Runs {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        match self.verb.unwrap_or(Verb::List(self.list)) {
            Verb::List(verb) => verb.run(globals, console).await,
            Verb::Show(verb) => verb.run(globals, console).await,
            Verb::Watch(verb) => verb.run(globals, console).await,
            Verb::Report(verb) => verb.run(globals, console).await,
            Verb::Events(verb) => verb.run(globals, console).await,
        }
    }
}
