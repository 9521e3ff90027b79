//! `fracas runs report`: a run's report in one of its forms, on standard output or into a file.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use proto_model::exit;
use serde_json::json;

use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::output::Format;
use crate::replace::replace;
use crate::reports::report;
use crate::values::RunName;

const EXAMPLES: &str = "\
Examples:
  fracas runs report @last > report.md
  fracas runs report @last --format html --to report.html
  fracas runs report 7h2k9w --format json --to result.json";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Markdown,
    Json,
    Html,
    Junit,
}

/// Print a run's report
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Report {
    /// A run's id, the first 6 or more of its characters, or @last
    run: RunName,
    /// The report's form
    #[arg(long = "format", alias = "form", value_enum, default_value_t = Form::Markdown)]
    form: Form,
    /// Write it to this file
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

impl Report {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let form = match self.form {
            Form::Markdown => "markdown",
            Form::Json => "json",
            Form::Html => "html",
            Form::Junit => "junit",
        };
        let client = Client::connect(globals).await?;
        let reply = report(&client, &self.run.0, form).await?;
        if let Some(path) = &self.to {
            replace(path, &reply.text)?;
            console.note(&format!("written to {}", path.display()));
            return Ok(exit::OK);
        }
        match console.format {
            Format::Json | Format::Jsonl | Format::Yaml if self.form != Form::Json => {
                let document = json!({"apiVersion": proto_model::document::API_VERSION, "kind": "Report",
                    "media_type": reply.media_type, "path": reply.path, "text": reply.text});
                console.document(&document, &reply.path, |_| Ok(()))?;
            }
            Format::Name => console.line(&reply.path),
            _ => console.raw(reply.text.trim_end()),
        }
        Ok(exit::OK)
    }
}
