//! `fracas runs watch`: a run's events as they come, until it is finished; an interrupt only leaves.

use clap::Args;
use proto_model::quantity::Millis;
use std::time::Duration;
use tokio::time::Instant;

use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::follow::{Ending, Follow};
use crate::globals::{Globals, HELP};
use crate::interrupt::{Interrupts, OnInterrupt};
use crate::start::{left, print_end, shown};
use crate::summary;
use crate::values::{self, RunName};

const EXAMPLES: &str = "\
Examples:
  fracas runs watch @last
  fracas runs watch 7h2k9w --timeout 10m
  fracas runs watch @last -o jsonl";

/// Watch a run live until it is finished; the exit code is the run's
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Watch {
    /// A run's id, the first 6 or more of its characters, or @last
    run: RunName,
    /// Watch at most this long; the exit code is then 9
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Millis>,
}

impl Watch {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        // @last is another run as soon as one starts, so the id is settled first.
        let (_, found) = shown(&client, &self.run.0).await?;
        let run = found.id.to_string();
        let mut interrupts = Interrupts::listen()?;
        let follow = Follow {
            client: &client,
            run: &run,
            until: self.timeout.map(|limit| Instant::now() + Duration::from_millis(limit.0)),
            on_interrupt: OnInterrupt::Leave,
            leave_unread: true,
        };
        match follow.to_the_end(console, &mut interrupts, None).await? {
            Ending::Finished => {
                let (value, document) = shown(&client, &run).await?;
                print_end(console, &client, &value, &document).await?;
                Ok(summary::exit_code(&document))
            }
            early => Ok(left(console, &run, early, self.timeout)),
        }
    }
}
