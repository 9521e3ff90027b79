//! `fracas freezes import`: a calendar's file as a whole; what an earlier import of it made is replaced.

use clap::Args;
use proto_model::document::API_VERSION;
use proto_model::exit;
use proto_wire::v1::FreezesImportRequest;
use serde_json::json;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;
use crate::start::announce;
use crate::verbs::run::read;

const EXAMPLES: &str = "\
Examples:
  fracas freezes import retail.yaml
The file:
  apiVersion: fracas/v1
  kind: FreezeCalendar
  name: retail-2026
  timezone: Europe/Berlin
  freezes:
    - { from: 2026-12-20, until: 2026-12-26, reason: year end, environment: production }";

/// Import a calendar of freezes
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Import {
    /// The calendar's file; - reads standard input
    file: String,
}

impl Import {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        announce(console, client, "of each freeze");
        let request = FreezesImportRequest {
            file_text: read(&self.file)?,
            file_name: self.file.clone(),
        };
        let reply = client.call("import the calendar", ASK, client.freezes().import(request)).await;
        let reply = reply.map_err(|failure| {
            let in_it = failure.exit == exit::INVALID_FILE;
            if in_it { failure.in_file(&self.file) } else { failure }
        })?;
        let value = json!({"apiVersion": API_VERSION, "kind": "FreezeImport", "calendar": reply.calendar, "added": reply.added,
            "removed": reply.removed, "unchanged": reply.unchanged});
        console.document(&value, &reply.calendar, |console| {
            console.line(&format!(
                "calendar  {}: {} added, {} removed, {} unchanged",
                reply.calendar, reply.added, reply.removed, reply.unchanged
            ));
            Ok(())
        })?;
        Ok(exit::OK)
    }
}
