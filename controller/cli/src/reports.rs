//! Where the reports of a start go: written when the run passed, failed, or never was, so that a pipeline sees it; the controller makes them.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use proto_telling::junit::Suite;
use proto_telling::refusal;

use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::start::{report, write};

#[derive(Debug, Clone, Args)]
pub struct Reports {
    /// Write the report to this file; its name's end says the form: .md, .json, .html or .xml (JUnit)
    #[arg(long, value_name = "FILE", value_parser = ReportFile::from_str, conflicts_with = "detach")]
    report: Option<ReportFile>,
    /// Write the result as JUnit XML to this file
    #[arg(long, value_name = "FILE", conflicts_with = "detach")]
    junit: Option<PathBuf>,
}

/// Where a report goes, in the form that its name's end says.
#[derive(Debug, Clone)]
pub struct ReportFile {
    path: PathBuf,
    form: &'static str,
}

impl FromStr for ReportFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = PathBuf::from(text);
        let form = match path.extension().and_then(|end| end.to_str()) {
            Some("md") => "markdown",
            Some("json") => "json",
            Some("html") => "html",
            Some("xml") => "junit",
            _ => return Err("expected a name that ends in .md, .json, .html or .xml".to_owned()),
        };
        Ok(Self { path, form })
    }
}

impl Reports {
    fn files(&self) -> Vec<ReportFile> {
        let junit = self.junit.iter().map(|path| ReportFile {
            path: path.clone(),
            form: "junit",
        });
        self.report.iter().cloned().chain(junit).collect()
    }

    /// Writes what is known of the run; whether every file that was asked for is there.
    pub async fn written(&self, client: &Client, console: &Console, run: &str) -> bool {
        let mut all = true;
        for file in self.files() {
            let made = report(client, run, file.form).await;
            all &= told(console, made.and_then(|reply| write(&file.path, &reply.text)));
        }
        all
    }

    /// The outcome of a start, handed on; of one that failed, the files say why.
    pub fn seen(&self, console: &Console, name: &str, outcome: Result<u8, Failure>) -> Result<u8, Failure> {
        if let Err(failure) = &outcome {
            for file in self.files() {
                told(console, write(&file.path, &refused(file.form, name, failure)));
            }
        }
        outcome
    }
}

fn refused(form: &str, name: &str, failure: &Failure) -> String {
    match form {
        "junit" => Suite::refused(name, &failure.error).xml(),
        "json" => refusal::json(&failure.error),
        "html" => refusal::html(name, &failure.error),
        _ => refusal::markdown(name, &failure.error),
    }
}

fn told(console: &Console, written: Result<(), Failure>) -> bool {
    if let Err(failure) = &written {
        console.note(&format!("error: {}", failure.error.message));
    }
    written.is_ok()
}
