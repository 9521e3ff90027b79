//! `fracas runs events`: what is recorded of a run so far, as the timeline or as documents.

use clap::Args;
use proto_model::exit;
use proto_telling::Timeline;
use proto_wire::v1::RunRef;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::output::{Format, yaml};
use crate::values::RunName;

const EXAMPLES: &str = "\
Examples:
  fracas runs events @last
  fracas runs events 7h2k9w -o jsonl | jq 'select(.type == \"host.verified\")'";

/// Print a run's events so far; -o jsonl prints one document a line
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Events {
    /// A run's id, the first 6 or more of its characters, or @last
    run: RunName,
}

impl Events {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        let request = RunRef { run: self.run.0 };
        let events = client.call("read the events", ASK, client.runs().events(request)).await?;
        let values = events
            .items
            .iter()
            .map(|text| documents::value("Event", text))
            .collect::<Result<Vec<_>, _>>()?;
        match console.format {
            Format::Json => console.raw(&format!("{:#}", documents::list("Event", values))),
            Format::Yaml => console.raw(&yaml::document(&documents::list("Event", values))),
            Format::Jsonl => values.iter().for_each(|value| console.raw(&value.to_string())),
            Format::Name => console.lines(values.iter().map(|value| value["seq"].to_string())),
            Format::Table | Format::Wide => {
                let mut timeline = Timeline::default();
                values.iter().for_each(|value| console.lines(timeline.of_document(value)));
            }
        }
        Ok(exit::OK)
    }
}
