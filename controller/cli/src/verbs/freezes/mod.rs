//! `fracas freezes`: times in which no schedule starts anything; without a verb it lists.

mod change;
mod import;

use clap::{Args, Subcommand};
use proto_model::exit;
use proto_model::schedule::FreezeDocument;
use proto_model::time::Timestamp;
use proto_wire::v1::FreezesListRequest;

use crate::age::ago;
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents::Shown;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas freezes
  fracas freezes add --from 2026-12-20 --until 2026-12-26 --tz Europe/Berlin --reason 'year end'
  fracas freezes import retail.yaml";

/// Hold schedules back for a while; a person's own runs are not concerned
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true)]
pub struct Freezes {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(change::Add),
    List(List),
    Remove(change::Remove),
    Import(import::Import),
}

const LIST_EXAMPLES: &str = "\
Examples:
  fracas freezes list
  fracas freezes list -o json";

/// List freezes by their beginnings
#[derive(Debug, Args)]
#[command(before_help = LIST_EXAMPLES, help_template = HELP)]
pub struct List {}

impl Freezes {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        match self.verb.unwrap_or(Verb::List(List {})) {
            Verb::Add(verb) => verb.run(&client, console).await,
            Verb::List(_) => list(&client, console).await,
            Verb::Remove(verb) => verb.run(&client, console).await,
            Verb::Import(verb) => verb.run(&client, console).await,
        }
    }
}

async fn list(client: &Client, console: &mut Console) -> Result<u8, Failure> {
    let documents = client
        .call("list the freezes", ASK, client.freezes().list(FreezesListRequest {}))
        .await?;
    console.list::<FreezeDocument>(&documents.items)?;
    Ok(exit::OK)
}

impl Shown for FreezeDocument {
    const KIND: &'static str = "Freeze";
    const PLURAL: &'static str = "freezes";

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn header(_: bool) -> &'static [&'static str] {
        &["NAME", "IN FORCE", "FROM", "UNTIL", "ENV", "CALENDAR", "REASON", "BY", "AGE"]
    }

    fn row(&self, _: bool, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            if self.in_force { "yes" } else { "no" }.to_owned(),
            self.from.to_string(),
            self.until.to_string(),
            self.environment.clone().unwrap_or_else(|| "every".to_owned()),
            self.calendar.clone().unwrap_or_default(),
            self.reason.clone(),
            self.created_by.clone(),
            ago(self.created_at, now),
        ]
    }
}
