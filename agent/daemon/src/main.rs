//! `fracas-agent`: reads the command line, starts the log, hands over; it does nothing itself.

use std::process::ExitCode;
use std::time::Duration;

use agent_daemon::options::{Options, Verb};
use agent_daemon::{check, doctor, enrol, guardian, rescue, run, talk, worker};
use clap::Parser;
use proto_model::injection::EndedBy;
use proto_program::exit;
use proto_program::logging::{self, LogFormat};

const NAME: &str = "fracas-agent";
const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    proto_transport::install_provider();
    if let Err(error) = logging::init(LogFormat::Plain) {
        return exit::failed(NAME, &error, USAGE);
    }
    match obey(options) {
        Ok(code) => code,
        Err(error) => exit::failed(NAME, error.as_ref(), FAILED),
    }
}

fn obey(options: Options) -> anyhow::Result<ExitCode> {
    let places = options.paths.places();
    match options.command {
        Verb::Run { watchdog_ms } => run::run(&places, Duration::from_millis(watchdog_ms)),
        Verb::Enrol {
            controller,
            token_file,
            name,
        } => enrol::enrol(&places, controller, token_file.as_deref(), name),
        Verb::Rescue { package } => rescue::rescue_all(&places, if package { EndedBy::Package } else { EndedBy::Rescue }),
        Verb::Status { output } => talk::status(&places, output),
        Verb::Halt { reason } => rescue::halt(&places, &reason),
        Verb::Release => rescue::release(&places),
        Verb::CheckConfig { defaults } => check::check_config(&places, defaults),
        Verb::Doctor { output } => doctor::doctor(&places, output),
        Verb::Catalogue => check::catalogue(),
        Verb::Worker => worker::work(),
        Verb::Guardian { agent, watchdog_ms } => guardian::guard(&places, agent, Duration::from_millis(watchdog_ms)),
    }
}
