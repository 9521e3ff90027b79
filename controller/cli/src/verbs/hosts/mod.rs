//! `fracas hosts`: the machines that run an agent; without a verb it lists.

mod accept;
pub mod calls;
mod cordon;
mod doctor;
mod label;
mod list;
mod lock;
mod remove;
mod show;
mod uncordon;
mod unlock;
mod verify;
mod view;

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas hosts
  fracas hosts show web
  fracas hosts label web role=web zone-
  fracas hosts cordon web --reason 'disk is being replaced'
  fracas hosts remove web --reason 'replaced by web-2'";

/// List, show, label, cordon, lock, remove, verify and examine hosts
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Hosts {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    Show(show::Show),
    Label(label::Label),
    Cordon(cordon::Cordon),
    Uncordon(uncordon::Uncordon),
    Lock(lock::Lock),
    Unlock(unlock::Unlock),
    Remove(remove::Remove),
    Verify(verify::Verify),
    Accept(accept::Accept),
    Doctor(doctor::Doctor),
}

impl Hosts {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        match self.verb.unwrap_or(Verb::List(self.list)) {
            Verb::List(verb) => verb.run(&client, console).await,
            Verb::Show(verb) => verb.run(&client, console).await,
            Verb::Label(verb) => verb.run(&client, console).await,
            Verb::Cordon(verb) => verb.run(&client, console).await,
            Verb::Uncordon(verb) => verb.run(&client, console).await,
            Verb::Lock(verb) => verb.run(&client, console).await,
            Verb::Unlock(verb) => verb.run(&client, console).await,
            Verb::Remove(verb) => verb.run(&client, console).await,
            Verb::Verify(verb) => verb.run(&client, console).await,
            Verb::Accept(verb) => verb.run(&client, console).await,
            Verb::Doctor(verb) => verb.run(&client, console).await,
        }
    }
}
