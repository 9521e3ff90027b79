//! `fracas contexts use`: the context that is meant when none is named.

use clap::Args;
use proto_model::exit;

use super::file::File;
use crate::console::Console;
use crate::context;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas contexts use staging
  fracas contexts use local";

/// Choose the current context
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Use {
    /// The context's name
    name: String,
}

impl Use {
    pub fn run(self, mut file: File, console: &Console) -> Result<u8, Failure> {
        if !file.config.names().any(|name| name == self.name) {
            return Err(context::unknown(&file.config, &self.name));
        }
        file.config.current = Some(self.name.clone());
        file.save()?;
        console.note(&format!("the current context is {}", self.name));
        Ok(exit::OK)
    }
}
