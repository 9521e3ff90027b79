//! `fracas-controller`: reads the command line and its configuration, then hands over; it does nothing itself.

mod certificate;
mod clock;
mod config;
mod huge_pages;
mod open_files;
mod operator;
mod options;
mod serve;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use proto_program::exit;
use proto_program::logging::{self, LogFormat};

use crate::config::Config;
use crate::options::Options;

const NAME: &str = "fracas-controller";
const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    proto_transport::install_provider();
    if let Err(error) = logging::init(NAME, if options.log_json { LogFormat::Json } else { LogFormat::Plain }) {
        return exit::failed(NAME, &error, USAGE);
    }
    if let Some(folder) = &options.manual {
        return match proto_program::manual::write(Options::command(), folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => exit::failed(NAME, &error, FAILED),
        };
    }
    let config = match Config::load(&options.config) {
        Ok(config) => config,
        Err(error) => return exit::failed(NAME, error.as_ref(), USAGE),
    };
    if options.check_config {
        println!("{} is in order", options.config.display());
        certificate::warn_of_end(&options.state_dir, config.authority.0);
        return ExitCode::SUCCESS;
    }
    if let (Some(name), Some(out)) = (&options.issue_operator, &options.out) {
        return match operator::issue(&options.state_dir, config.authority.0, name, options.role, out) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => exit::failed(NAME, error.as_ref(), FAILED),
        };
    }
    if let Some(text) = &options.revoke_operator {
        return match operator::revoke(&options.state_dir, text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => exit::failed(NAME, error.as_ref(), FAILED),
        };
    }
    clock::move_cadence(options.clock_offset);
    huge_pages::do_without();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::failed(NAME, &error, FAILED),
    };
    match runtime.block_on(serve::serve(&options, config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failed(NAME, error.as_ref(), FAILED),
    }
}
