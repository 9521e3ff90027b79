//! `fracas authority rotate`: one step of a rotation; the controller refuses what would shut out a host or an operator that is not named.

use clap::Args;
use clap::builder::PossibleValuesParser;
use proto_model::document::AuthorityDocument;
use proto_model::exit;
use proto_wire::v1::AuthorityRotateRequest;

use super::view;
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas authority rotate prepare
  fracas authority rotate switch
  fracas authority rotate finish --abandon web-7,operator/ann";

/// Take one step: prepare a successor, switch to it, finish; or cancel before the switch
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Rotate {
    /// prepare, switch, finish or cancel
    #[arg(value_name = "STEP", value_parser = PossibleValuesParser::new(["prepare", "switch", "finish", "cancel"]))]
    step: String,
    /// Hosts, and operators as operator/NAME, that the step may shut out
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    abandon: Vec<String>,
}

impl Rotate {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        console.note(&format!("context   {} ({})", client.context.name, client.context.address()));
        let request = AuthorityRotateRequest {
            step: self.step,
            abandon: self.abandon,
        };
        let reply = client.call("rotate the authority", ASK, client.authority().rotate(request)).await?;
        let value = documents::value("Authority", &reply.json)?;
        let shown: AuthorityDocument = documents::read("Authority", &value)?;
        console.document(&value, &shown.phase, |console| {
            console.lines(shown.note.iter());
            console.lines(view::lines(&shown));
            Ok(())
        })?;
        Ok(exit::OK)
    }
}
