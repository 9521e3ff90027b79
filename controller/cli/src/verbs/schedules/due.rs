//! `fracas schedules due`: every test of every service with the age of its last decision, the ones that press most first.

use clap::Args;
use proto_model::exit;
use proto_model::schedule::{DueDocument, DueState};
use proto_model::time::Timestamp;
use proto_wire::v1::DueRequest;

use super::view::{day, decided};
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents::{self, Shown};
use crate::failure::Failure;
use crate::globals::HELP;

const EXAMPLES: &str = "\
Examples:
  fracas schedules due
  fracas schedules due --fail-overdue";

/// List required and known tests by how old their last decided run is: due after 28 days, overdue after 35
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Due {
    /// Exit 1 when a test is overdue or was never decided, whether it has a schedule or not
    #[arg(long)]
    fail_overdue: bool,
}

impl Due {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        let documents = client.call("list what is due", ASK, client.schedules().due(DueRequest {})).await?;
        console.list::<DueDocument>(&documents.items)?;
        let values = documents.items.iter().map(|text| documents::value("Due", text));
        let tests = documents::read_all::<DueDocument>(&values.collect::<Result<Vec<_>, _>>()?)?;
        let pressing = tests
            .iter()
            .any(|test| matches!(test.due.state, DueState::Overdue | DueState::Never));
        Ok(if self.fail_overdue && pressing { exit::ERROR } else { exit::OK })
    }
}

impl Shown for DueDocument {
    const KIND: &'static str = "Due";
    const PLURAL: &'static str = "tests of a service";

    fn name(&self) -> String {
        self.experiment.clone()
    }

    fn header(_: bool) -> &'static [&'static str] {
        &[
            "NAME",
            "SERVICE",
            "DUE",
            "LAST DECIDED",
            "VERDICT",
            "28 DAYS",
            "35 DAYS",
            "SCHEDULES",
        ]
    }

    fn row(&self, _: bool, now: Timestamp) -> Vec<String> {
        let last = self.due.last.as_ref();
        vec![
            self.experiment.clone(),
            self.service.clone().unwrap_or_default(),
            self.due.state.as_str().to_owned(),
            decided(&self.due, now),
            last.map(|decided| decided.verdict.as_str().to_owned()).unwrap_or_default(),
            day(self.due.due_at),
            day(self.due.overdue_at),
            self.schedules.join(","),
        ]
    }
}
