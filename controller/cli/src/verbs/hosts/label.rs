//! `fracas hosts label`: sets and removes what people call a host.

use clap::Args;
use proto_model::exit;
use proto_wire::v1::LabelRequest;

use super::calls::{announced, changed};
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;
use crate::values::LabelChange;

const EXAMPLES: &str = "\
Examples:
  fracas hosts label web role=web zone=a
  fracas hosts label web zone-";

/// Set labels of a host with key=value, remove them with key-
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Label {
    /// The host's name
    host: String,
    /// key=value to set, key- to remove
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    labels: Vec<LabelChange>,
}

impl Label {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        announced(client, console, &self.host).await?;
        let mut request = LabelRequest {
            host: self.host,
            ..LabelRequest::default()
        };
        for change in self.labels {
            match change {
                LabelChange::Set(label) => drop(request.set.insert(label.key, label.value)),
                LabelChange::Remove(key) => request.remove.push(key),
            }
        }
        let document = client.call("label the host", ASK, client.hosts().label(request)).await?;
        changed(console, &document)?;
        Ok(exit::OK)
    }
}
