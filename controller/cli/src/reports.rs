//! Where the reports of a start go: red from the first moment, then what the controller made of the run, or why there is nothing.
//! No older result outlives a start, however it ends.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use proto_model::document::ErrorBody;
use proto_telling::junit::Suite;
use proto_telling::refusal;
use proto_wire::v1::{ReportReply, ReportRequest};

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::replace::{is_ordinary, replace};

const NOT_FINISHED: &str = "not_finished";
const NO_REPORT: &str = "no_report";

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

    /// Before anything is asked of anybody: an older result is gone, and one that never comes is not taken for a good one.
    pub fn begin(&self, name: &str) -> Result<(), Failure> {
        let pending = ErrorBody::new(NOT_FINISHED, "fracas has not come to its end; where it runs no more, it was killed");
        for file in self.files().iter().filter(|file| is_ordinary(&file.path)) {
            let written = replace(&file.path, &without_result(file.form, name, &pending));
            written.map_err(|failure| failure.hint("nothing was started"))?;
        }
        Ok(())
    }

    /// Writes what became of a finished run; whether every file that was asked for is there.
    pub async fn written(&self, client: &Client, console: &Console, name: &str, run: &str) -> bool {
        let mut all = true;
        for file in self.files() {
            all &= told(console, fetched(client, name, run, &file).await);
        }
        all
    }

    /// Of a run that is left before its end: why, as JUnit, and in the other forms as far as it has got.
    pub async fn left(&self, client: &Client, console: &Console, name: &str, run: &str, why: &str) {
        let error = ErrorBody::new(NOT_FINISHED, why);
        for file in self.files() {
            let written = match file.form {
                // A pipeline asks this file whether all is well, and whoever left does not know.
                "junit" => replace(&file.path, &without_result(file.form, name, &error)),
                _ => fetched(client, name, run, &file).await,
            };
            told(console, written);
        }
    }

    /// The outcome of a start, handed on; of one that failed, the files say why.
    pub fn seen(&self, console: &Console, name: &str, outcome: Result<u8, Failure>) -> Result<u8, Failure> {
        if let Err(failure) = &outcome {
            for file in self.files() {
                told(console, replace(&file.path, &without_result(file.form, name, &failure.error)));
            }
        }
        outcome
    }
}

/// As the controller makes it, in one of its forms.
pub async fn report(client: &Client, run: &str, format: &str) -> Result<ReportReply, Failure> {
    let request = ReportRequest {
        run: run.to_owned(),
        format: format.to_owned(),
    };
    client.call("make the report", ASK, client.runs().report(request)).await
}

/// The controller's report, or why there is none.
async fn fetched(client: &Client, name: &str, run: &str, file: &ReportFile) -> Result<(), Failure> {
    let failure = match report(client, run, file.form).await {
        Ok(reply) => return replace(&file.path, &reply.text),
        Err(failure) => failure,
    };
    let message = format!("the report of run {run} could not be fetched: {}", failure.error.message);
    replace(&file.path, &without_result(file.form, name, &ErrorBody::new(NO_REPORT, message)))?;
    Err(failure)
}

fn without_result(form: &str, name: &str, error: &ErrorBody) -> String {
    match form {
        "junit" => Suite::refused(name, error).xml(),
        "json" => refusal::json(error),
        "html" => refusal::html(name, error),
        _ => refusal::markdown(name, error),
    }
}

fn told(console: &Console, written: Result<(), Failure>) -> bool {
    if let Err(failure) = &written {
        console.note(&format!("error: {}", failure.error.message));
    }
    written.is_ok()
}
