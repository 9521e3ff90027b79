//! The operator's program `fracas`: reads the command line, runs one verb, answers with an exit code; it decides nothing about a run.

mod age;
mod catalogue;
mod client;
mod command;
mod config;
mod console;
mod context;
mod dispatch;
mod documents;
mod failure;
mod folder;
mod follow;
mod globals;
mod interrupt;
mod irreversible;
mod output;
mod pairs;
mod plan_view;
mod replace;
mod reports;
mod run_view;
mod site;
mod start;
mod summary;
mod top;
mod values;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::command::Cli;
use crate::console::Console;
use crate::failure::Failure;
use crate::output::Format;

fn main() -> ExitCode {
    let arguments = command::singular(std::env::args_os().collect());
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(unparsed(&error, &arguments)),
    };
    let mut console = Console::new(cli.globals.output);
    let code = dispatch::run(cli, &mut console).unwrap_or_else(|failure| {
        console.fail(&failure);
        failure.exit
    });
    ExitCode::from(console.finish(code))
}

/// Help and versions are answers (0); anything else is a mistake on the command line (2).
fn unparsed(error: &clap::Error, arguments: &[OsString]) -> u8 {
    if error.use_stderr() && wants_json(arguments) {
        Console::new(Format::Json).fail(&Failure::usage(plain(error)));
    } else {
        // A closed pipe while help is printed is nobody's problem.
        let _ = error.print();
    }
    if error.use_stderr() {
        proto_model::exit::USAGE
    } else {
        proto_model::exit::OK
    }
}

/// The command line could not be parsed, so `-o json` is looked for by hand.
fn wants_json(arguments: &[OsString]) -> bool {
    let texts: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    let joined = |a: &&str| {
        matches!(
            *a,
            "-ojson" | "-ojsonl" | "-o=json" | "-o=jsonl" | "--output=json" | "--output=jsonl"
        )
    };
    let apart = |pair: &[&str]| matches!(pair[0], "-o" | "--output") && matches!(pair[1], "json" | "jsonl");
    texts.iter().any(joined) || texts.windows(2).any(apart)
}

/// The parser's message as one line without its usage block.
fn plain(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let joined: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    joined.join("; ").trim_start_matches("error: ").to_owned()
}
