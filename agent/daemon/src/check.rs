//! `check-config` and `catalogue`: what this agent would do and has, printed; nothing is changed.

use std::process::ExitCode;

use agent_warden::{Policy, SHIPPED};

use crate::paths::Paths;

/// The exit code of an invalid file.
const INVALID_FILE: u8 = 3;

pub fn check_config(paths: &Paths, defaults: bool) -> anyhow::Result<ExitCode> {
    if defaults {
        print!("{SHIPPED}");
        return Ok(ExitCode::SUCCESS);
    }
    match Policy::load(&paths.config, &agent_faults::catalogue()) {
        Ok(_) => println!("{} is valid", paths.config.display()),
        Err(error) => {
            return Ok(proto_program::exit::failed("fracas-agent", &error, INVALID_FILE));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub fn catalogue() -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string_pretty(&agent_faults::catalogue())?);
    Ok(ExitCode::SUCCESS)
}
