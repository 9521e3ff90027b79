//! `fracas runs show`: everything one run showed; 0 whatever its verdict, since showing succeeded.

use clap::Args;
use proto_model::exit;

use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::run_view;
use crate::start::shown;
use crate::values::RunName;

const EXAMPLES: &str = "\
Examples:
  fracas runs show @last
  fracas runs show 7h2k9w -o json";

/// Show a run: verdict, cleanup, reasons, injections, probes, hosts
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Show {
    /// A run's id, the first 6 or more of its characters, or @last
    run: RunName,
}

impl Show {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        let (value, run) = shown(&client, &self.run.0).await?;
        console.document(&value, run.id.as_str(), |console| {
            let head = run_view::head(&run, |word| console.word(word));
            console.lines(head);
            console.lines(run_view::tables(&run));
            Ok(())
        })?;
        Ok(exit::OK)
    }
}
