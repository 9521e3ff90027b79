//! `fracas services list`: the services that were applied.

use clap::Args;
use proto_model::exit;
use proto_model::service::ServiceDocument;
use proto_wire::v1::ServicesListRequest;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas services list
  fracas services list -o json";

/// List services
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct List {}

impl List {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        let request = ServicesListRequest {};
        let documents = client
            .call("list the services", ASK, client.evidence().list_services(request))
            .await?;
        console.list::<ServiceDocument>(&documents.items)?;
        Ok(exit::OK)
    }
}
