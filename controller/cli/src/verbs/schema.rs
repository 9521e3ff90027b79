//! `fracas schema`: the JSON Schema of experiment files, for editors; it asks nobody.

use clap::Args;

use crate::console::Console;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas schema > experiment.schema.json
  # yaml-language-server: $schema=./experiment.schema.json      (first line of an experiment)";

const SCHEMA: &str = include_str!("../../../../docs/experiment.schema.json");

/// Print the JSON Schema of experiment files, which editors check them with
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Schema {}

impl Schema {
    pub fn run(self, console: &mut Console) -> Result<u8, Failure> {
        console.raw(SCHEMA.trim_end());
        Ok(proto_model::exit::OK)
    }
}
