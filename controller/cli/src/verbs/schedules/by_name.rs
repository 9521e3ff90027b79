//! The verbs that name one schedule: show, pause, resume, remove, run-now.

use clap::Args;
use proto_model::exit;
use proto_model::schedule::{ScheduleDocument, TickDocument, TickState};
use proto_wire::v1::{Document, ScheduleRef};

use super::view;
use crate::client::{ASK, Client, DEED};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::HELP;
use crate::start::announce;

const SHOW: &str = "\
Examples:
  fracas schedules show checkout
  fracas schedules show checkout -o json";
const PAUSE: &str = "\
Examples:
  fracas schedules pause checkout";
const RESUME: &str = "\
Examples:
  fracas schedules resume checkout";
const REMOVE: &str = "\
Examples:
  fracas schedules remove checkout";
const RUN_NOW: &str = "\
Examples:
  fracas schedules run-now checkout
  fracas runs watch $(fracas schedules run-now checkout -o name)";

/// Show a schedule, its next times and its last ticks
#[derive(Debug, Args)]
#[command(before_help = SHOW, help_template = HELP)]
pub struct Show {
    name: String,
}

/// Plan nothing until it is resumed
#[derive(Debug, Args)]
#[command(before_help = PAUSE, help_template = HELP)]
pub struct Pause {
    name: String,
}

/// End a pause; what was planned for its time is not made up for
#[derive(Debug, Args)]
#[command(before_help = RESUME, help_template = HELP)]
pub struct Resume {
    name: String,
}

/// Remove a schedule; its runs stay
#[derive(Debug, Args)]
#[command(before_help = REMOVE, help_template = HELP)]
pub struct Remove {
    name: String,
}

/// Start it now, whatever its window and a pause say; never in a freeze or a halt
#[derive(Debug, Args)]
#[command(before_help = RUN_NOW, help_template = HELP)]
pub struct RunNow {
    name: String,
}

fn named(name: String) -> ScheduleRef {
    ScheduleRef { name }
}

impl Show {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let request = named(self.name);
        let document = client.call("show the schedule", ASK, client.schedules().show(request)).await?;
        print(console, &document)
    }
}

impl Pause {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        announce(console, client, "of the experiment");
        let request = named(self.name);
        let document = client.call("pause the schedule", ASK, client.schedules().pause(request)).await?;
        print(console, &document)
    }
}

impl Resume {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        announce(console, client, "of the experiment");
        let request = named(self.name);
        let document = client.call("resume the schedule", ASK, client.schedules().resume(request)).await?;
        print(console, &document)
    }
}

impl Remove {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        announce(console, client, "of the experiment");
        let request = named(self.name);
        let document = client.call("remove the schedule", ASK, client.schedules().remove(request)).await?;
        let value = documents::value("Schedule", &document.json)?;
        let schedule: ScheduleDocument = documents::read("Schedule", &value)?;
        console.document(&value, &schedule.name, |console| {
            console.line(&format!("removed   {}", schedule.name));
            Ok(())
        })?;
        Ok(exit::OK)
    }
}

impl RunNow {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        announce(console, client, "of the experiment");
        let request = named(self.name);
        let document = client
            .call("start the schedule's run", DEED, client.schedules().run_now(request))
            .await?;
        let value = documents::value("Tick", &document.json)?;
        let tick: TickDocument = documents::read("Tick", &value)?;
        let run = tick.run.as_ref().map(ToString::to_string).unwrap_or_default();
        console.document(&value, &run, |console| {
            console.lines(view::tick_lines(&tick));
            Ok(())
        })?;
        Ok(if tick.state == TickState::Started { exit::OK } else { exit::ERROR })
    }
}

fn print(console: &mut Console, document: &Document) -> Result<u8, Failure> {
    let value = documents::value("Schedule", &document.json)?;
    let schedule: ScheduleDocument = documents::read("Schedule", &value)?;
    console.document(&value, &schedule.name, |console| {
        console.lines(view::page(&schedule));
        Ok(())
    })?;
    Ok(exit::OK)
}
