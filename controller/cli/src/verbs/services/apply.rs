//! `fracas services apply`: a service's file becomes what the controller knows of it; the file is the truth.

use clap::Args;
use proto_model::exit;
use proto_model::service::ServiceDocument;
use proto_wire::v1::ServiceApplyRequest;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::start::announce;
use crate::verbs::run::read;

const EXAMPLES: &str = "\
Examples:
  fracas services apply checkout-service.yaml
  fracas services apply - < checkout-service.yaml";

/// Apply a service's file; it replaces the one before
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Apply {
    /// The service's file; - reads standard input
    file: String,
}

impl Apply {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let request = ServiceApplyRequest {
            file_text: read(&self.file)?,
            file_name: self.file.clone(),
        };
        let client = Client::connect(globals).await?;
        announce(console, &client, "every environment");
        let answer = client
            .call("apply the service", ASK, client.evidence().apply_service(request))
            .await;
        let document = answer.map_err(|failure| failure.in_file(&self.file))?;
        let value = documents::value("Service", &document.json)?;
        let service: ServiceDocument = documents::read("Service", &value)?;
        console.document(&value, &service.service.name, |console| {
            console.list::<ServiceDocument>(std::slice::from_ref(&document.json))
        })?;
        Ok(exit::OK)
    }
}
