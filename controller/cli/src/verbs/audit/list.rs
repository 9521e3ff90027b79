//! `fracas audit list`: the newest lines of the audit log, the newest last.

use clap::Args;
use proto_model::document::AuditEntry;
use proto_model::exit;
use proto_wire::v1::AuditListRequest;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas audit list
  fracas audit list --caller ann --limit 1000 -o jsonl";

/// List the newest lines of the audit log, the newest last
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct List {
    /// Only what this caller did
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    caller: String,
    /// How many lines at most
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

impl List {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let request = AuditListRequest {
            limit: self.limit,
            caller: self.caller,
        };
        let documents = client.call("read the audit log", ASK, client.audit().list(request)).await?;
        console.list::<AuditEntry>(&documents.items)?;
        Ok(exit::OK)
    }
}
