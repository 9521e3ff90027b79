//! `fracas schedules add`: an experiment's file with the times at which it is to be started.

use std::io::{BufRead, IsTerminal};

use clap::Args;
use proto_model::exit;
use proto_model::schedule::ScheduleDocument;
use proto_wire::v1::{Document, ScheduleAddRequest};

use super::view;
use crate::client::{Client, DEED};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::HELP;
use crate::pairs::{self, Pair};
use crate::start::announce;
use crate::verbs::run::read;

const EXAMPLES: &str = "\
Examples:
  fracas schedules add checkout.yaml --cron '0 10 * * 2' --tz Europe/Berlin
  fracas schedules add checkout.yaml --cron '*/30 * * * *' --window 'Mon-Fri 09:00-16:00' --missed run-once
  fracas schedules add checkout.yaml --cron '0 3 * * 2' --name checkout-weekly --confirm production";

/// Add a schedule; refused when it could never start unattended
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Add {
    /// The experiment's file; - reads standard input
    file: String,
    /// When: minute, hour, day of the month, month, day of the week; or @hourly, @daily, @weekly, @monthly
    #[arg(long, value_name = "PATTERN")]
    cron: String,
    /// The time zone of the pattern and of the window
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    tz: String,
    /// What it is called [default: the experiment's name]
    #[arg(long)]
    name: Option<String>,
    /// Start only then, such as 'Mon-Fri 09:00-16:00; Sun 22:00-04:00'
    #[arg(long, value_name = "WINDOW")]
    window: Option<String>,
    /// What becomes of times that went by while no controller ran
    #[arg(long, default_value = "skip", value_name = "RULE", value_parser = ["skip", "run-once"])]
    missed: String,
    /// Set a variable of the file
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Pair>,
    /// The environment's name, typed again; production needs it
    #[arg(long, value_name = "ENV")]
    confirm: Option<String>,
}

impl Add {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let request = ScheduleAddRequest {
            name: self.name.unwrap_or_default(),
            file_text: read(&self.file)?,
            file_name: self.file.clone(),
            set: pairs::settings(&self.set)?.into_iter().collect(),
            cron: self.cron,
            timezone: self.tz,
            window: self.window.unwrap_or_default(),
            missed: self.missed,
            confirm: self.confirm.unwrap_or_default(),
        };
        announce(console, client, "of the experiment");
        let document = match ask(client, request.clone()).await {
            Err(failure) if failure.error.code == "approval_needed" && request.confirm.is_empty() && std::io::stdin().is_terminal() => {
                console.note(&format!("{}. Type its name to go on:", failure.error.message));
                let confirm = typed()?;
                ask(client, ScheduleAddRequest { confirm, ..request }).await
            }
            answer => answer,
        };
        let document = document.map_err(|failure| in_file(failure, &self.file))?;
        let value = documents::value("Schedule", &document.json)?;
        let schedule: ScheduleDocument = documents::read("Schedule", &value)?;
        schedule.notes.iter().for_each(|note| console.note(&format!("note: {note}")));
        console.document(&value, &schedule.name, |console| {
            console.lines(view::page(&schedule));
            Ok(())
        })?;
        Ok(exit::OK)
    }
}

async fn ask(client: &Client, request: ScheduleAddRequest) -> Result<Document, Failure> {
    client.call("add the schedule", DEED, client.schedules().add(request)).await
}

/// Only what is wrong in the file is a place in it.
fn in_file(failure: Failure, file: &str) -> Failure {
    if failure.exit == exit::INVALID_FILE {
        failure.in_file(file)
    } else {
        failure
    }
}

fn typed() -> Result<String, Failure> {
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    read.map_err(|error| Failure::local(format!("cannot read the confirmation: {error}")))?;
    Ok(typed.trim().to_owned())
}
