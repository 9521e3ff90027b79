//! `fracas contexts remove`: forgets a context; the built-in one stays.

use clap::Args;
use proto_model::exit;

use super::file::File;
use crate::config::LOCAL;
use crate::console::Console;
use crate::context;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas contexts remove staging";

/// Remove a context
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Remove {
    /// The context's name
    name: String,
}

impl Remove {
    pub fn run(self, mut file: File, console: &Console) -> Result<u8, Failure> {
        if self.name == LOCAL {
            return Err(Failure::usage("the context \"local\" is built in and cannot be removed"));
        }
        if file.config.find(&self.name).is_none() {
            return Err(context::unknown(&file.config, &self.name));
        }
        file.config.contexts.retain(|remote| remote.name != self.name);
        if file.config.current.as_deref() == Some(self.name.as_str()) {
            file.config.current = None;
            console.note("the current context is local again");
        }
        file.save()?;
        console.note(&format!("removed context {}", self.name));
        Ok(exit::OK)
    }
}
