//! `fracas contexts`: the controllers this person knows; without a verb it lists. No controller is asked.

mod add;
mod file;
mod list;
mod remove;
mod select;

use clap::{Args, Subcommand};

use self::file::File;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas contexts
  fracas contexts add staging --server ctl.example:7443 --ca-file ca.pem --token-file token
  fracas contexts use staging";

/// List, choose, add and remove controllers
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true)]
pub struct Contexts {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    Use(select::Use),
    Add(add::Add),
    Remove(remove::Remove),
}

impl Contexts {
    pub fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let file = File::open(globals)?;
        match self.verb.unwrap_or(Verb::List(list::List {})) {
            Verb::List(verb) => verb.run(&file, globals, console),
            Verb::Use(verb) => verb.run(file, console),
            Verb::Add(verb) => verb.run(file, console),
            Verb::Remove(verb) => verb.run(file, console),
        }
    }
}
