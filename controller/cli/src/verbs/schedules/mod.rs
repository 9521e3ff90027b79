//! `fracas schedules`: runs that nobody has to start; without a verb it lists.

mod add;
mod by_name;
mod due;
mod view;

use clap::{Args, Subcommand};
use proto_model::exit;
use proto_model::schedule::ScheduleDocument;
use proto_wire::v1::SchedulesListRequest;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas schedules
  fracas schedules add checkout.yaml --cron '0 10 * * 2' --tz Europe/Berlin --window 'Mon-Fri 09:00-16:00'
  fracas schedules due
  fracas schedules run-now checkout";

/// Schedule experiments, and see what is due and overdue
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true)]
pub struct Schedules {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(add::Add),
    List(List),
    Show(by_name::Show),
    Pause(by_name::Pause),
    Resume(by_name::Resume),
    Remove(by_name::Remove),
    RunNow(by_name::RunNow),
    Due(due::Due),
}

const LIST_EXAMPLES: &str = "\
Examples:
  fracas schedules list
  fracas schedules list -o wide";

/// List schedules: what is next, what was last, how old the last decision is
#[derive(Debug, Args)]
#[command(before_help = LIST_EXAMPLES, help_template = HELP)]
pub struct List {}

impl Schedules {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        match self.verb.unwrap_or(Verb::List(List {})) {
            Verb::Add(verb) => verb.run(&client, console).await,
            Verb::List(_) => list(&client, console).await,
            Verb::Show(verb) => verb.run(&client, console).await,
            Verb::Pause(verb) => verb.run(&client, console).await,
            Verb::Resume(verb) => verb.run(&client, console).await,
            Verb::Remove(verb) => verb.run(&client, console).await,
            Verb::RunNow(verb) => verb.run(&client, console).await,
            Verb::Due(verb) => verb.run(&client, console).await,
        }
    }
}

async fn list(client: &Client, console: &mut Console) -> Result<u8, Failure> {
    let documents = client
        .call("list the schedules", ASK, client.schedules().list(SchedulesListRequest {}))
        .await?;
    console.list::<ScheduleDocument>(&documents.items)?;
    Ok(exit::OK)
}
