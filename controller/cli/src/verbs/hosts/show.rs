//! `fracas hosts show`: everything that is known of one host.

use clap::Args;
use proto_model::exit;

use super::calls::{find, read};
use super::view;
use crate::age::now;
use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas hosts show web
  fracas hosts show web -o yaml";

/// Show one host
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Show {
    /// The host's name
    host: String,
}

impl Show {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let (value, host) = read(&find(client, &self.host).await?)?;
        console.document(&value, host.name.as_str(), |console| {
            let page = view::page(&host, now(), |word| console.word(word));
            console.lines(page);
            Ok(())
        })?;
        Ok(exit::OK)
    }
}
