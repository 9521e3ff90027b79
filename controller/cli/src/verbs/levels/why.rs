//! `fracas levels why`: each requirement that keeps a service from a level, and what to do next.

use clap::Args;
use proto_model::exit;

use super::calls::of_one;
use super::view;
use crate::age::now;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas levels why checkout 3";

/// Name what keeps a service from a level
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Why {
    /// The service's name
    service: String,
    /// The level, 1 to 5
    #[arg(value_parser = clap::value_parser!(u8).range(1..=5))]
    level: u8,
}

impl Why {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let (value, levels) = of_one(globals, &self.service).await?;
        console.document(&value, &levels.level.to_string(), |console| {
            let lines = view::why(&levels, self.level, now(), |word| console.word(word));
            console.lines(lines);
            Ok(())
        })?;
        Ok(exit::OK)
    }
}
