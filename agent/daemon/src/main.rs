//! `fracas-agent`: reads the command line, starts the log, hands over; it does nothing itself.

use std::process::ExitCode;
use std::time::Duration;

use agent_daemon::options::{Options, Verb};
use agent_daemon::{check, doctor, enrol, guardian, last_guard, local_client, rescue, run, session, worker};
use clap::{CommandFactory, Parser};
use proto_model::injection::EndedBy;
use proto_program::exit;
use proto_program::logging::{self, LogFormat};

const NAME: &str = "fracas-agent";
const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    proto_transport::install_provider();
    if let Err(error) = logging::init(NAME, LogFormat::Plain) {
        return exit::failed(NAME, &error, USAGE);
    }
    match obey(options) {
        Ok(code) => code,
        Err(error) => exit::failed(NAME, error.as_ref(), FAILED),
    }
}

fn obey(options: Options) -> anyhow::Result<ExitCode> {
    let paths = options.paths.paths();
    match options.command {
        Verb::Run { watchdog_ms } => run::run(&paths, Duration::from_millis(watchdog_ms)),
        Verb::Enrol {
            controller,
            token_file,
            name,
        } => enrol::enrol(&paths, controller, token_file.as_deref(), name),
        Verb::Rescue { watch: true, .. } => last_guard::watch(&paths),
        Verb::Rescue { package, patience, .. } => {
            let patience = Duration::from_secs(patience);
            match package {
                true => rescue::rescue_for_package(&paths, patience),
                false => rescue::rescue_all(&paths, EndedBy::Rescue, patience),
            }
        }
        Verb::Status { output } => local_client::status(&paths, output),
        Verb::Halt { reason } => rescue::halt(&paths, &reason),
        Verb::Release => rescue::release(&paths),
        Verb::CheckConfig { defaults } => check::check_config(&paths, defaults),
        Verb::Doctor { output } => doctor::doctor(&paths, output),
        Verb::Catalogue => check::catalogue(),
        Verb::Manual { folder } => {
            proto_program::manual::write(Options::command(), &folder)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Worker { uid, gid } => worker::work(uid.zip(gid)),
        Verb::Session => session::session(),
        Verb::Guardian { agent, watchdog_ms } => guardian::guard(&paths, agent, Duration::from_millis(watchdog_ms)),
    }
}
