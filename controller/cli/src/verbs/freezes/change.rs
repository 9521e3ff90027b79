//! `fracas freezes add` and `remove`: one freeze at a time.

use clap::Args;
use proto_model::exit;
use proto_model::schedule::FreezeDocument;
use proto_wire::v1::{Document, FreezeAddRequest, FreezeRef};

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::HELP;
use crate::start::announce;

const ADD: &str = "\
Examples:
  fracas freezes add --from 2026-12-20 --until 2026-12-26 --reason 'year end'
  fracas freezes add --from 2026-11-27T06:00 --until 2026-11-27T22:00 --tz Europe/Berlin --environment production --reason sale";
const REMOVE: &str = "\
Examples:
  fracas freezes remove 7h2k9w3f8v1q0abc";

/// Add a freeze
#[derive(Debug, Args)]
#[command(before_help = ADD, help_template = HELP)]
pub struct Add {
    /// Its beginning: a day, a time in --tz, or a time with Z
    #[arg(long, value_name = "TIME")]
    from: String,
    /// Its end; a day is meant to its end
    #[arg(long, value_name = "TIME")]
    until: String,
    /// The time zone of days and times without one
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    tz: String,
    /// Why; shown with every start that it held back
    #[arg(long)]
    reason: String,
    /// Only there [default: every environment]
    #[arg(long, value_name = "ENV", alias = "env")]
    environment: Option<String>,
}

/// Remove a freeze
#[derive(Debug, Args)]
#[command(before_help = REMOVE, help_template = HELP)]
pub struct Remove {
    id: String,
}

impl Add {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        announce(console, client, self.environment.as_deref().unwrap_or("every environment"));
        let request = FreezeAddRequest {
            from: self.from,
            until: self.until,
            timezone: self.tz,
            reason: self.reason,
            environment: self.environment.unwrap_or_default(),
        };
        let document = client.call("add the freeze", ASK, client.freezes().add(request)).await?;
        print(console, &document)
    }
}

impl Remove {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        announce(console, client, "of the freeze");
        let request = FreezeRef { id: self.id };
        let document = client.call("remove the freeze", ASK, client.freezes().remove(request)).await?;
        print(console, &document)
    }
}

fn print(console: &mut Console, document: &Document) -> Result<u8, Failure> {
    let value = documents::value("Freeze", &document.json)?;
    let freeze: FreezeDocument = documents::read("Freeze", &value)?;
    console.document(&value, freeze.id.as_str(), |console| {
        console.list::<FreezeDocument>(std::slice::from_ref(&document.json))
    })?;
    Ok(exit::OK)
}
