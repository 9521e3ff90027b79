//! `fracas run`: an experiment from a file or a plan made before; a gate, so only a pass is 0.

use std::io::Read;

use clap::Args;
use proto_model::exit;
use proto_wire::v1::PlanRequest;
use proto_wire::v1::plan_request::Wish;

use crate::client::Client;
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::pairs::{self, Pair};
use crate::start::{How, Start};

const EXAMPLES: &str = "\
Examples:
  fracas run checkout.yaml
  fracas run checkout.yaml --set delay=300ms --timeout 15m --stop-on-interrupt --junit result.xml --report result.html
  fracas run --plan sha256:5d0e... --detach";

/// The longest file that is sent.
const FILE_BYTES: u64 = 1 << 20;

/// Run an experiment and judge its hypothesis
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Run {
    /// The experiment's file; - reads standard input
    #[arg(required_unless_present = "plan", conflicts_with = "plan")]
    file: Option<String>,
    /// Run exactly this plan, by its digest
    #[arg(long, value_name = "DIGEST")]
    plan: Option<String>,
    /// Set a variable of the file
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "plan")]
    set: Vec<Pair>,
    #[command(flatten)]
    how: How,
}

impl Run {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let source = match (&self.file, &self.plan) {
            (Some(file), _) => Source::File(file.clone()),
            (None, digest) => Source::Digest(digest.clone().unwrap_or_default()),
        };
        let outcome = match self.how.reports.begin(source.name()) {
            Ok(()) => self.started(&source, globals, console).await,
            Err(failure) => Err(failure),
        };
        self.how.reports.seen(console, source.name(), outcome)
    }

    async fn started(&self, source: &Source, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let request = source.request(&self.set)?;
        let client = Client::connect(globals).await?;
        let start = Start {
            client: &client,
            request,
            name: source.name(),
            file: source.file().map(str::to_owned),
            how: &self.how,
        };
        start.go(console).await
    }
}

/// Where a plan comes from.
pub enum Source {
    File(String),
    Digest(String),
}

impl Source {
    pub fn request(&self, set: &[Pair]) -> Result<PlanRequest, Failure> {
        let (wish, file_name) = match self {
            Self::File(file) => (Wish::FileText(read(file)?), file.clone()),
            Self::Digest(digest) => (Wish::Digest(digest.clone()), String::new()),
        };
        Ok(PlanRequest {
            wish: Some(wish),
            file_name,
            set: pairs::settings(set)?,
        })
    }

    fn name(&self) -> &str {
        match self {
            Self::File(name) | Self::Digest(name) => name,
        }
    }

    pub fn file(&self) -> Option<&str> {
        match self {
            Self::File(file) => Some(file),
            Self::Digest(_) => None,
        }
    }
}

/// A file as text, or standard input.
pub fn read(file: &str) -> Result<String, Failure> {
    let invalid = |why: String| Failure::new(exit::INVALID_FILE, "invalid_file", format!("cannot read {file}: {why}"));
    let mut bytes = Vec::new();
    let read = if file == "-" {
        std::io::stdin().lock().take(FILE_BYTES + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(FILE_BYTES + 1).read_to_end(&mut bytes))
    };
    let length = read.map_err(|error| invalid(error.to_string()))?;
    if length as u64 > FILE_BYTES {
        return Err(invalid(format!("it is longer than {} KiB", FILE_BYTES >> 10)));
    }
    String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8 text".to_owned()))
}
