//! `fracas operators list`: every operator's token without its secret.

use clap::Args;
use proto_model::document::OperatorDocument;
use proto_model::exit;
use proto_wire::v1::OperatorsListRequest;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas operators list
  fracas operators list -o json";

/// List operators' tokens
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct List {}

impl List {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let documents = client
            .call("list the operators", ASK, client.operators().list(OperatorsListRequest {}))
            .await?;
        console.list::<OperatorDocument>(&documents.items)?;
        Ok(exit::OK)
    }
}
