//! `fracas release`: ends a halt in a person's name; it starts nothing again.

use clap::Args;
use proto_model::exit;
use proto_wire::v1::ReleaseRequest;

use crate::client::{Client, DEED};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::start::announce;
use crate::verbs::halt;

const EXAMPLES: &str = "\
Examples:
  fracas release --reason 'checkout is back'";

/// End a halt, so that new runs may start
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Release {
    /// Why it is safe again, for the record
    #[arg(long)]
    reason: String,
}

impl Release {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        if self.reason.trim().is_empty() {
            return Err(Failure::usage("--reason is empty: a release needs its reason"));
        }
        let client = Client::connect(globals).await?;
        announce(console, &client, "every environment");
        let request = ReleaseRequest { reason: self.reason };
        let reply = client.call("release the halt", DEED, client.emergency().release(request)).await?;
        halt::print(console, &reply)?;
        for host in &reply.silent {
            console.note(&format!("{host} has not answered yet; it stays halted until it does"));
        }
        Ok(exit::OK)
    }
}
