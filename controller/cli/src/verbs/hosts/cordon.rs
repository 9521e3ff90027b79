//! `fracas hosts cordon`: no experiments on a host; what acts already is not touched.

use clap::Args;
use proto_model::exit;
use proto_wire::v1::CordonRequest;

use super::calls::{announced, changed};
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas hosts cordon web --reason 'disk is being replaced'";

/// Keep experiments away from a host
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Cordon {
    /// The host's name
    host: String,
    /// Why, for those who wonder
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

impl Cordon {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        set(client, console, &self.host, true, self.reason).await
    }
}

/// Cordons or opens a host.
pub async fn set(client: &Client, console: &mut Console, host: &str, cordoned: bool, reason: String) -> Result<u8, Failure> {
    announced(client, console, host).await?;
    let request = CordonRequest {
        host: host.to_owned(),
        cordoned,
        reason,
    };
    let deed = if cordoned { "cordon the host" } else { "uncordon the host" };
    let document = client.call(deed, ASK, client.hosts().cordon(request)).await?;
    changed(console, &document)?;
    Ok(exit::OK)
}
