//! `fracas levels show`: each requirement with its evidence.

use clap::Args;
use proto_model::evidence::Levels;
use proto_model::exit;

use super::calls::{ask, of_one};
use super::view;
use crate::age::now;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas levels show
  fracas levels show checkout
  fracas levels show checkout -o json";

/// Show a service's level and what each requirement stands on
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Show {
    /// The service's name; without it, one line for each service
    service: Option<String>,
}

impl Show {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let Some(service) = self.service else {
            console.list::<Levels>(&ask(globals, "").await?)?;
            return Ok(exit::OK);
        };
        let (value, levels) = of_one(globals, &service).await?;
        console.document(&value, &levels.level.to_string(), |console| {
            let page = view::page(&levels, now(), |word| console.word(word));
            console.lines(page);
            Ok(())
        })?;
        Ok(exit::OK)
    }
}
