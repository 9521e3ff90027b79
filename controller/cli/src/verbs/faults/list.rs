//! `fracas faults list`: every fault some host offers, found by the field's other names too.

use clap::Args;
use proto_model::exit;

use super::fault::{Fault, catalogue};
use crate::client::Client;
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas faults list
  fracas faults list blackhole
  fracas faults list stress -o wide";

/// List faults; a word narrows the list, also by other tools' names for them
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct List {
    /// A word of the name, the summary or another name: blackhole, stress
    word: Option<String>,
}

impl List {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let mut texts = Vec::new();
        for value in catalogue(client).await? {
            let fault: Fault = documents::read("Fault", &value)?;
            if self.word.as_ref().is_none_or(|word| fault.speaks_of(word)) {
                texts.push(value.to_string());
            }
        }
        console.list::<Fault>(&texts)?;
        Ok(exit::OK)
    }
}
