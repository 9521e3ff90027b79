//! `fracas stop`: ends runs or single injections and undoes them; one that fails does not keep the others.

use clap::Args;
use proto_model::exit;
use proto_wire::v1::{RunRef, StopRequest};
use serde_json::{Value, json};
use std::time::Duration;

use crate::client::{Client, DEED};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::output::Format;
use crate::start::announce;
use crate::values::RunName;
use crate::{documents, output};

const EXAMPLES: &str = "\
Examples:
  fracas stop @last
  fracas stop 7h2k9w 3f8v1q --reason 'pager went off'";

/// A stop is not kept waiting for the sake of its announcement.
const LOOK: Duration = Duration::from_millis(500);

/// End runs or injections and undo them; answered when the effect is gone
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Stop {
    /// Runs or injections, by id
    #[arg(required = true, value_name = "RUN|INJECTION")]
    targets: Vec<RunName>,
    /// Why, for the record
    #[arg(long, default_value = "stopped at the command line", hide_default_value = true)]
    reason: String,
}

impl Stop {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        let mut answers = Vec::new();
        let mut worst = exit::OK;
        for RunName(target) in &self.targets {
            announce(console, &client, &environment(&client, target).await);
            match self.stop(&client, target).await {
                Ok(answer) => answers.push(answer),
                Err(failure) => {
                    console.fail(&failure);
                    worst = if worst == exit::OK { failure.exit } else { worst };
                }
            }
        }
        print(console, &answers)?;
        Ok(worst)
    }

    async fn stop(&self, client: &Client, target: &str) -> Result<Value, Failure> {
        let request = StopRequest {
            target: target.to_owned(),
            reason: self.reason.clone(),
        };
        let reply = client.call(&format!("stop {target}"), DEED, client.runs().stop(request)).await?;
        Ok(json!({"apiVersion": proto_model::document::API_VERSION, "kind": "Stop",
            "target": target, "run": reply.run, "answer": reply.answer, "undone": reply.undone}))
    }
}

/// The environment of a run; of an injection, or when the answer is slow, nothing is known.
async fn environment(client: &Client, target: &str) -> String {
    let request = RunRef { run: target.to_owned() };
    let shown = client.call("look at the run", LOOK, client.runs().show(request)).await;
    let value = shown.ok().and_then(|document| documents::value("Run", &document.json).ok());
    value
        .and_then(|value| value["environment"].as_str().map(str::to_owned))
        .unwrap_or_else(|| "-".to_owned())
}

fn print(console: &mut Console, answers: &[Value]) -> Result<(), Failure> {
    match console.format {
        Format::Json => console.raw(&format!("{:#}", documents::list("Stop", answers.to_vec()))),
        Format::Yaml => console.raw(&output::yaml::document(&documents::list("Stop", answers.to_vec()))),
        _ => {
            for answer in answers {
                let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
                console.document(answer, &text("run"), |console| {
                    let undone = answer["undone"].as_u64().filter(|count| *count > 0);
                    let undone = undone.map(|count| format!(", {count} undone")).unwrap_or_default();
                    console.line(&format!("run {} {}{undone}", text("run"), text("answer").replace('_', " ")));
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}
