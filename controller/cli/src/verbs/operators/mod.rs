//! `fracas operators`: tokens of people on other machines; without a verb it lists.

mod create;
mod list;
mod revoke;

use clap::{Args, Subcommand};
use proto_model::document::OperatorDocument;
use proto_model::time::Timestamp;

use crate::age::ago;
use crate::client::Client;
use crate::console::Console;
use crate::documents::Shown;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas operators create ann --role operator --ttl 30d --token-file ann.token
  fracas operators
  fracas operators revoke ann";

/// Create, list and revoke operators' tokens
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Operators {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::Create),
    List(list::List),
    Revoke(revoke::Revoke),
}

impl Operators {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        match self.verb.unwrap_or(Verb::List(list::List {})) {
            Verb::Create(verb) => verb.run(&client, console).await,
            Verb::List(verb) => verb.run(&client, console).await,
            Verb::Revoke(verb) => verb.run(&client, console).await,
        }
    }
}

impl Shown for OperatorDocument {
    const KIND: &'static str = "Operator";
    const PLURAL: &'static str = "operators' tokens";

    fn name(&self) -> String {
        self.id.clone()
    }

    fn header(wide: bool) -> &'static [&'static str] {
        if wide {
            &["NAME", "ROLE", "STATE", "ID", "USED", "EXPIRES", "BY", "AGE"]
        } else {
            &["NAME", "ROLE", "STATE", "ID", "USED", "EXPIRES", "AGE"]
        }
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut row = vec![
            self.name.clone(),
            self.role.to_string(),
            state(self, now).to_owned(),
            self.id.clone(),
            self.last_used.map_or_else(|| "never".to_owned(), |at| used(at, now)),
            self.expires_at.to_string(),
        ];
        if wide {
            row.push(self.created_by.clone());
        }
        row.push(ago(self.created_at, now));
        row
    }
}

/// As coarse as it is known.
fn used(at: Timestamp, now: Timestamp) -> String {
    match now.since(at) / 60_000 {
        0..30 => "just now".to_owned(),
        _ => ago(at, now),
    }
}

fn state(operator: &OperatorDocument, now: Timestamp) -> &'static str {
    if operator.revoked {
        "revoked"
    } else if now >= operator.expires_at {
        "expired"
    } else {
        "open"
    }
}
