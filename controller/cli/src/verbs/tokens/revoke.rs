//! `fracas tokens revoke`: nobody joins with it any more; hosts that joined stay.

use clap::Args;
use proto_model::document::TokenDocument;
use proto_model::exit;
use proto_wire::v1::{TokenRef, TokensListRequest};

use super::view::environment;
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::HELP;
use crate::start::announce;

const EXAMPLES: &str = "\
Examples:
  fracas tokens revoke 7h2k9w3f8v1q0abc";

/// Revoke a join token
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Revoke {
    /// The token's id
    id: String,
}

impl Revoke {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let known = client
            .call("list the tokens", ASK, client.tokens().list(TokensListRequest {}))
            .await?;
        let read = |text: &String| {
            documents::value("Token", text)
                .and_then(|value| documents::read::<TokenDocument>("Token", &value))
                .ok()
        };
        if let Some(token) = known.items.iter().filter_map(read).find(|token| token.id == self.id) {
            announce(
                console,
                client,
                environment(token.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
            );
        }
        let request = TokenRef { id: self.id };
        let document = client.call("revoke the token", ASK, client.tokens().revoke(request)).await?;
        let value = documents::value("Token", &document.json)?;
        let token: TokenDocument = documents::read("Token", &value)?;
        console.document(&value, &token.id, |console| {
            console.list::<TokenDocument>(std::slice::from_ref(&document.json))
        })?;
        Ok(exit::OK)
    }
}
