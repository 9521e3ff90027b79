//! `fracas audit`: who changed what, and who was refused; without a verb it lists.

mod list;

use clap::{Args, Subcommand};
use proto_model::document::AuditEntry;
use proto_model::time::Timestamp;

use crate::age::ago;
use crate::client::Client;
use crate::console::Console;
use crate::documents::Shown;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas audit
  fracas audit list --caller ann --limit 1000 -o jsonl";

/// Show who changed what, and who was refused
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP, disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub struct Audit {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
}

impl Audit {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        let Verb::List(verb) = self.verb.unwrap_or(Verb::List(self.list));
        verb.run(&client, console).await
    }
}

impl Shown for AuditEntry {
    const KIND: &'static str = "AuditEntry";
    const PLURAL: &'static str = "lines in the audit log";

    fn name(&self) -> String {
        self.id.clone()
    }

    fn header(wide: bool) -> &'static [&'static str] {
        if wide {
            &[
                "CALL", "OUTCOME", "CODE", "CALLER", "ROLE", "SUBJECT", "ADDRESS", "UNLISTED", "AT", "AGE",
            ]
        } else {
            &["CALL", "OUTCOME", "CALLER", "SUBJECT", "AT", "AGE"]
        }
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (outcome, age) = (self.outcome.as_str().to_owned(), ago(self.at, now));
        let (call, at) = (self.call.clone(), self.at.to_string());
        if !wide {
            return vec![call, outcome, text(&self.caller), text(&self.subject), at, age];
        }
        vec![
            call,
            outcome,
            text(&self.code),
            text(&self.caller),
            self.role.map(|role| role.to_string()).unwrap_or_default(),
            text(&self.subject),
            self.address.clone(),
            self.unlisted.to_string(),
            at,
            age,
        ]
    }
}
