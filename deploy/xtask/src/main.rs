//! Automation for developers and newcomers: `cargo xtask demo`, `cargo xtask test`, and what they stand on; it is no part of any package.

mod bench;
mod cargo;
mod demo;
mod deny;
mod goods;
mod machines;
mod measure;
mod measured;
mod orders;
mod package;
mod packets;
mod plant;
mod planted_tree;
mod rungs;
mod scale;
mod showing;
mod stage;
mod summary;
mod traffic;
mod unavailable;
mod wrappers;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tests_harness::{interrupt, programs};

/// Shown to whoever types `cargo xtask`
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make hosts with real software, break them, see them proven clean, and publish it
    Demo(demo::Demo),
    /// Tell the agents of a demo that stays up: `cargo xtask demo-agent client down`
    DemoAgent(orders::Order),
    /// Run every suite, rung by rung
    Test(rungs::Test),
    /// Work with the virtual machines of the rung vm
    #[command(subcommand)]
    Vm(machines::Vm),
    /// Plant deliberate bugs in a copy of the tree, and see which suite catches each
    Plant(plant::Plant),
    /// Make a deb and an rpm of each package
    Package(package::Package),
    /// Measure ourselves beside a peer, and write docs/benchmarks.md
    Bench(bench::Bench),
    /// Write anew what is made from something else: the wire's Rust from its .proto files, docs/faults.md from the kinds
    Generate,
    /// Check the house rules, or lower the ratchet to today's sizes
    Tidy {
        /// Write today's sizes into tests/tidy/ratchet.toml
        #[arg(long)]
        ratchet: bool,
    },
    /// Check formatting and clippy
    Lint,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match interrupt::install().and_then(|()| obey(options)) {
        Ok(code) => code,
        Err(_) if interrupt::asked() => {
            eprintln!("interrupted; everything is taken down");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn obey(options: Options) -> Result<ExitCode> {
    let root = programs::repository().canonicalize()?;
    match options.verb {
        Verb::Demo(demo) => return demo.run(),
        Verb::DemoAgent(order) => order.send()?,
        Verb::Test(test) => return test.run(),
        Verb::Vm(vm) => vm.run()?,
        Verb::Plant(plant) => return plant.run(),
        Verb::Package(package) => package.run()?,
        Verb::Bench(bench) => bench.run()?,
        Verb::Generate => generate(&root)?,
        Verb::Tidy { ratchet: true } => tests_tidy::sizes::write_ratchet(&root)?,
        Verb::Tidy { ratchet: false } => return rungs::only("tidy"),
        Verb::Lint => return rungs::only("lint"),
    }
    Ok(ExitCode::SUCCESS)
}

fn generate(root: &Path) -> Result<()> {
    tests_tidy::wire::generate(root, &root.join("proto/wire/src/generated"))?;
    programs::build_all(programs::Loudness::Progress)?;
    let said = Command::new(programs::find("fracas-agent")?).arg("catalogue").output()?;
    let page = tests_tidy::faults::page(&serde_json::from_slice(&said.stdout).context("read the agent's catalogue")?)?;
    std::fs::write(root.join(tests_tidy::faults::PAGE), page).context("write the page of faults")?;
    tests_tidy::probes::write(root)
}
