//! `fracas plan`: what a file would do, host by host; nothing is changed.

use clap::Args;

use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::pairs::Pair;
use crate::start;
use crate::verbs::run::Source;

const EXAMPLES: &str = "\
Examples:
  fracas plan checkout.yaml
  fracas plan checkout.yaml --set delay=300ms -o json
  fracas run --plan $(fracas plan checkout.yaml -o name)";

/// Resolve every choice of an experiment and ask each host; change nothing
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Plan {
    /// The experiment's file; - reads standard input
    file: String,
    /// Set a variable of the file
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Pair>,
}

impl Plan {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let source = Source::File(self.file);
        let request = source.request(&self.set)?;
        let client = Client::connect(globals).await?;
        let (value, view) = start::plan(&client, request, source.file()).await?;
        start::print_plan(console, &value, &view)
    }
}
