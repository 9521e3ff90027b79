//! `fracas runs list`: the newest runs first.

use clap::Args;
use proto_model::exit;
use proto_model::summary::RunSummary;
use proto_wire::v1::RunsListRequest;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas runs list
  fracas runs list --active
  fracas runs list -o name --limit 1";

/// List runs, the newest first
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct List {
    /// Only runs that are not finished
    #[arg(long)]
    active: bool,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    limit: u32,
}

impl List {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        let request = RunsListRequest {
            limit: self.limit,
            active_only: self.active,
        };
        let documents = client.call("list the runs", ASK, client.runs().list(request)).await?;
        console.list::<RunSummary>(&documents.items)?;
        Ok(exit::OK)
    }
}
