//! `fracas tokens`: what lets new hosts join; without a verb it lists.

mod create;
mod list;
mod revoke;

use clap::{Args, Subcommand};
use proto_model::document::TokenDocument;
use proto_model::time::Timestamp;

use crate::age::{ago, now};
use crate::client::Client;
use crate::console::Console;
use crate::documents::Shown;
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

impl Shown for TokenDocument {
    const KIND: &'static str = "Token";
    const PLURAL: &'static str = "tokens";

    fn name(&self) -> String {
        self.id.clone()
    }

    fn header(wide: bool) -> &'static [&'static str] {
        if wide {
            &["NAME", "STATE", "USED", "LABELS", "EXPIRES", "BY", "AGE"]
        } else {
            &["NAME", "STATE", "USED", "LABELS", "EXPIRES", "AGE"]
        }
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut row = vec![
            self.id.clone(),
            state(self, now).to_owned(),
            format!("{}/{}", self.used, self.uses),
            labels.join(","),
            self.expires_at.to_string(),
        ];
        if wide {
            row.push(self.created_by.clone());
        }
        row.push(ago(self.created_at, now));
        row
    }
}

fn state(token: &TokenDocument, now: Timestamp) -> &'static str {
    if token.revoked {
        "revoked"
    } else if now >= token.expires_at {
        "expired"
    } else if token.used >= token.uses {
        "used up"
    } else {
        "open"
    }
}

/// The environment that hosts of these labels are in.
fn environment<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> &'a str {
    let env = labels.into_iter().find(|(key, _)| *key == proto_model::host::ENV_LABEL);
    env.map_or(proto_model::host::PRODUCTION, |(_, value)| value)
}

/// How long a token is still good, for people.
fn left(token: &TokenDocument) -> String {
    crate::age::ago(now(), token.expires_at)
}
