//! `fracas services show`: one service as its file says it.

use clap::Args;
use proto_model::exit;
use proto_model::service::ServiceDocument;
use proto_wire::v1::ServiceRef;

use super::view;
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas services show checkout
  fracas services show checkout --file > checkout-service.yaml";

/// Show one service
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Show {
    /// The service's name
    service: String,
    /// Print the file as it was applied
    #[arg(long)]
    file: bool,
}

impl Show {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        let request = ServiceRef { service: self.service };
        let reply = client
            .call("show the service", ASK, client.evidence().show_service(request))
            .await?;
        if self.file {
            console.raw(reply.file_text.trim_end());
            return Ok(exit::OK);
        }
        let value = documents::value("Service", &reply.json)?;
        let service: ServiceDocument = documents::read("Service", &value)?;
        console.document(&value, &service.service.name, |console| {
            console.lines(view::page(&service));
            Ok(())
        })?;
        Ok(exit::OK)
    }
}
