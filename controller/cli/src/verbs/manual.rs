//! `fracas manual`: the manual pages and completions, written for packages; it asks no controller.

use std::path::PathBuf;

use clap::Args;
use proto_model::exit;

use crate::failure::Failure;

/// Write the manual pages and completions into a folder
#[derive(Debug, Args)]
pub struct Manual {
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Manual {
    pub fn run(self, grammar: clap::Command) -> Result<u8, Failure> {
        let written = proto_program::manual::write(grammar, &self.folder);
        written.map_err(|error| Failure::local(format!("cannot write the manual into {}: {error}", self.folder.display())))?;
        Ok(exit::OK)
    }
}
