//! `fracas operators revoke`: one token by its id, or all of a person; in force at once, also for what is being watched.

use clap::Args;
use proto_model::document::OperatorDocument;
use proto_model::exit;
use proto_wire::v1::OperatorRef;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas operators revoke 7h2k9w3f8v1q0abc
  fracas operators revoke ann";

/// Revoke an operator's token, or every one of a name
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Revoke {
    /// The token's id, or a name for all of its tokens
    #[arg(value_name = "ID|NAME")]
    id: String,
}

impl Revoke {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let request = OperatorRef { id: self.id };
        let documents = client.call("revoke the token", ASK, client.operators().revoke(request)).await?;
        console.list::<OperatorDocument>(&documents.items)?;
        Ok(exit::OK)
    }
}
