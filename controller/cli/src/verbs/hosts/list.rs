//! `fracas hosts list`: the hosts that a selector means, or all.

use clap::Args;
use proto_model::exit;
use proto_model::host::Host;
use proto_wire::v1::HostsListRequest;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;
use crate::values;

const EXAMPLES: &str = "\
Examples:
  fracas hosts list
  fracas hosts list --on role=web,env=staging -o wide";

/// List hosts
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct List {
    /// Only the hosts that this selector means
    #[arg(long, value_name = "SELECTOR", value_parser = values::selector)]
    on: Option<String>,
}

impl List {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let request = HostsListRequest {
            selector: self.on.unwrap_or_default(),
        };
        let documents = client.call("list the hosts", ASK, client.hosts().list(request)).await?;
        console.list::<Host>(&documents.items)?;
        for (name, note) in documents.items.iter().filter_map(|text| noted(text)) {
            console.note(&format!("{name}: {note}"));
        }
        Ok(exit::OK)
    }
}

/// What is to be known of a host besides its row: why it is locked, cordoned or dirty, or that two machines are it.
fn noted(document: &str) -> Option<(String, String)> {
    let host: Host = serde_json::from_str(document).ok()?;
    Some((host.name.to_string(), host.note?))
}
