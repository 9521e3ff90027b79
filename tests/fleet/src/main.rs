//! `fracas-test-fleet`: a simulated fleet, or the bare fan-out that it is compared with, obeying lines on its standard input.

mod echo;
mod multiply;
mod outsiders;
mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "fracas-test-fleet", disable_help_subcommand = true)]
struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Enrol hosts, start them, and answer lines: `counts`, `halt EPOCH`, `move ADDRESS:PORT`
    Run(Run),
    /// Hold connections that never say who they are, and open again those that the controller closes
    Outsiders(Outsiders),
    /// Copy the newest run of a store, which no controller may have open, so many times into its past
    Multiply(Multiply),
    /// Serve the same calls with nothing behind them, and send one message to every stream for each line `fan-out EPOCH`
    Echo {
        /// Where its authority is made
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Multiply {
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
    #[arg(long)]
    runs: u32,
    /// Of how many services, named after the run's own with a number from 0 on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    services: u32,
    /// Of how many tests in each, named likewise
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    tests: u32,
    /// Leave their events as they were appended, as in the store of a former version
    #[arg(long)]
    in_rows: bool,
}

#[derive(Debug, Args)]
struct Outsiders {
    /// Where the controller takes agents
    #[arg(long, value_name = "ADDRESS:PORT")]
    controller: SocketAddr,
    /// SHA-256 of the authority's certificate, in hex
    #[arg(long)]
    fingerprint: String,
    /// Connections over TLS, without a certificate, that ask for nothing
    #[arg(long)]
    idle: u32,
    /// Connections that do not even begin TLS
    #[arg(long)]
    silent: u32,
    /// From how many addresses
    #[arg(long, default_value_t = 16)]
    addresses: u32,
}

#[derive(Debug, Args)]
struct Run {
    /// Where the controller takes agents
    #[arg(long, value_name = "ADDRESS:PORT")]
    controller: SocketAddr,
    /// The file with the join token
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    #[arg(long)]
    hosts: u32,
    /// The first host's number: numbers give names and addresses
    #[arg(long, default_value_t = 0)]
    first: u32,
    #[arg(long, default_value = "sim")]
    prefix: String,
    /// How many enrol at the same time
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// Over how long the first dials are spread, in milliseconds
    #[arg(long, default_value_t = 0)]
    spread_ms: u64,
    /// The first COUNT hosts behave so: `silent:3`, `slow=250:1`, `never-returns:2`, `wrong-clock:1`
    #[arg(long, value_name = "BEHAVIOUR:COUNT")]
    misbehave: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    proto_transport::install_provider();
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fracas-test-fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match options.verb {
            Verb::Run(run) => serve::run(&run).await,
            Verb::Multiply(multiply) => multiply::run(&multiply),
            Verb::Outsiders(outsiders) => outsiders::hold(&outsiders).await,
            Verb::Echo { folder } => echo::serve(&folder).await,
        }
    })
}

/// One line of JSON for whoever started this.
fn print(line: &serde_json::Value) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("write to the standard output")
}

/// Lines of the standard input, as they come, until it ends.
fn lines() -> tokio::sync::mpsc::Receiver<String> {
    let (sender, lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
