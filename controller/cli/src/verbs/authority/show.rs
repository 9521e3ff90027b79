//! `fracas authority show`: fingerprints, lives, the phase of a rotation and who it waits for; or the bundle to trust.

use clap::Args;
use proto_model::document::AuthorityDocument;
use proto_model::exit;
use proto_wire::v1::AuthorityShowRequest;

use super::view;
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas authority show
  fracas authority show --pem > authority.pem";

/// Show the authority in force, what is trusted beside it, and how far a rotation is
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Show {
    /// Print what there is to trust as PEM, for the ca_file of a context
    #[arg(long)]
    pem: bool,
}

impl Show {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let reply = client
            .call("show the authority", ASK, client.authority().show(AuthorityShowRequest {}))
            .await?;
        let value = documents::value("Authority", &reply.json)?;
        let shown: AuthorityDocument = documents::read("Authority", &value)?;
        if self.pem {
            console.raw(&shown.pem);
            return Ok(exit::OK);
        }
        console.document(&value, &shown.phase, |console| {
            console.lines(view::lines(&shown));
            Ok(())
        })?;
        Ok(exit::OK)
    }
}
