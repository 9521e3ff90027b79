//! `fracas tokens create`: prints the one line to paste on a new host; the secret is shown this once.

use clap::Args;
use proto_model::document::TokenDocument;
use proto_model::exit;
use proto_model::quantity::Millis;
use proto_wire::v1::TokenCreateRequest;

use super::view::{environment, left};
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::context::Place;
use crate::documents;
use crate::failure::Failure;
use crate::globals::HELP;
use crate::start::announce;
use crate::values::{self, Label};
use crate::verbs::hosts::calls::announced;

const EXAMPLES: &str = "\
Examples:
  fracas tokens create --label env=staging --label role=web --uses 10 --ttl 1h
  fracas tokens create --replace web
  fracas tokens create --label env=staging --controller ctl.example:7400 -o json";

/// Where agents dial in.
const AGENTS_PORT: u16 = 7400;

/// Create a join token and print the line to paste on the host
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Create {
    /// A label that hosts get when they join; without env=... they count as production
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<Label>,
    /// How many hosts may join with it
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// How long it is good; at most 7d
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = values::days)]
    ttl: Millis,
    /// The host whose place a re-imaged machine takes: it keeps the name, the labels and the past
    #[arg(long, value_name = "HOST")]
    replace: Option<String>,
    /// The address that hosts reach the controller at [default: the context's server, or this machine's name, port 7400]
    #[arg(long, value_name = "HOST:PORT")]
    controller: Option<String>,
}

impl Create {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        match &self.replace {
            Some(host) => announced(client, console, host).await?,
            None => {
                let env = environment(self.label.iter().map(|label| (label.key.as_str(), label.value.as_str())));
                announce(console, client, env);
            }
        }
        let request = TokenCreateRequest {
            labels: self.label.iter().map(|label| (label.key.clone(), label.value.clone())).collect(),
            uses: self.uses,
            ttl_ms: self.ttl.0,
            replace: self.replace.unwrap_or_default(),
        };
        let reply = client.call("create the token", ASK, client.tokens().create(request)).await?;
        let address = self.controller.unwrap_or_else(|| agents_address(client));
        let line = format!("fracas-agent enrol --controller {address} --token-file - <<< '{}'", reply.token);
        let mut value = documents::value("Token", &reply.document_json)?;
        let token: TokenDocument = documents::read("Token", &value)?;
        value["token"] = reply.token.into();
        value["command"] = line.clone().into();
        console.document(&value, &token.id, |console| {
            console.note(&format!(
                "token     {}, {} uses, good for {}; its secret is shown only now",
                token.id,
                token.uses,
                left(&token)
            ));
            console.line(&line);
            Ok(())
        })?;
        Ok(exit::OK)
    }
}

fn agents_address(client: &Client) -> String {
    let host = match &client.context.place {
        Place::Remote(remote) => remote
            .server
            .rsplit_once(':')
            .map_or(remote.server.clone(), |(host, _)| host.to_owned()),
        Place::Socket(_) => nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned()),
    };
    format!("{host}:{AGENTS_PORT}")
}
