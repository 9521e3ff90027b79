//! `fracas status`: one screen, the halt first; it changes nothing.

use clap::Args;
use proto_model::document::StatusDocument;
use proto_model::exit;
use proto_wire::v1::StatusRequest;

use crate::age::{ago, now};
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::output::paint::Tone;

const EXAMPLES: &str = "\
Examples:
  fracas status
  fracas status -o json";

/// The halt, the hosts and what acts now, on one screen
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Status {}

impl Status {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        let document = client
            .call("ask for the status", ASK, client.emergency().status(StatusRequest {}))
            .await?;
        let value = documents::value("Status", &document.json)?;
        let word = if value["halt"]["engaged"] == true { "halted" } else { "released" };
        console.document(&value, word, |console| {
            let status: StatusDocument = documents::read("Status", &value)?;
            print(console, &client, &status);
            Ok(())
        })?;
        Ok(exit::OK)
    }
}

fn print(console: &mut Console, client: &Client, status: &StatusDocument) {
    let halt = &status.halt;
    let state = if halt.engaged {
        let word = console.paint(Tone::Bad, "ENGAGED");
        format!("{word} by {} {} ago: {}", halt.by, ago(halt.at, now()), halt.reason)
    } else {
        console.paint(Tone::Good, "released")
    };
    console.line(&format!("halt        {state}"));
    if !status.silent.is_empty() {
        let names: Vec<String> = status.silent.iter().map(ToString::to_string).collect();
        let silent = console.paint(Tone::Bad, &format!("not yet answered by {}", names.join(", ")));
        console.line(&format!("            {silent}"));
    }
    let dirty = if status.hosts_dirty > 0 {
        console.paint(Tone::Bad, &format!("{} dirty", status.hosts_dirty))
    } else {
        "0 dirty".to_owned()
    };
    console.line(&format!(
        "hosts       {} connected, {} lost, {dirty}",
        status.hosts_connected, status.hosts_lost
    ));
    console.line(&format!("runs        {} active", status.runs_active));
    console.line(&format!("injections  {} active", status.injections_active));
    console.line(&format!(
        "controller  {} at {} (context {})",
        status.version,
        client.context.address(),
        client.context.name
    ));
    if status.failed_authentications > 0 {
        let count = format!(
            "{} failed authentications since the controller started",
            status.failed_authentications
        );
        console.line(&format!("refused     {count}"));
    }
    for warning in &status.warnings {
        console.line(&format!("warning     {}", console.paint(Tone::Bad, warning)));
    }
    let role = status.role.map(|role| format!(" ({role})")).unwrap_or_default();
    console.line(&format!("you are     {}{role}", status.caller));
}
