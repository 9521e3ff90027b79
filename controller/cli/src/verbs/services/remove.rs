//! `fracas services remove`: the controller forgets a service's file; its runs and what was published stay.

use clap::Args;
use proto_model::exit;
use proto_wire::v1::ServiceRef;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::start::announce;

const EXAMPLES: &str = "\
Examples:
  fracas services remove checkout";

/// Remove a service; its runs stay
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Remove {
    /// The service's name
    service: String,
}

impl Remove {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        announce(console, &client, "every environment");
        let request = ServiceRef {
            service: self.service.clone(),
        };
        let removed = client
            .call("remove the service", ASK, client.evidence().remove_service(request))
            .await?;
        let value = documents::value("Service", &removed.json)?;
        console.document(&value, &self.service, |console| {
            console.line(&format!("service {} removed; its runs stay", self.service));
            Ok(())
        })?;
        Ok(exit::OK)
    }
}
