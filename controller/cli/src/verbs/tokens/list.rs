//! `fracas tokens list`: every token without its secret.

use clap::Args;
use proto_model::document::TokenDocument;
use proto_model::exit;
use proto_wire::v1::TokensListRequest;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas tokens list
  fracas tokens list -o json";

/// List join tokens
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct List {}

impl List {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let documents = client
            .call("list the tokens", ASK, client.tokens().list(TokensListRequest {}))
            .await?;
        console.list::<TokenDocument>(&documents.items)?;
        Ok(exit::OK)
    }
}
