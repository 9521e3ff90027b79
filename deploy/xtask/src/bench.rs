//! `cargo xtask bench`: our figures beside a peer's, measured in the same minutes on the same machine; it judges nothing.

use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Result;
use clap::Args;
use tests_harness::{LabPlan, Packages, interrupt, programs};

use crate::{cargo, measure};

const PACKAGES: [&str; 3] = ["iproute2", "nftables", "stress-ng"];

/// Measure ourselves beside a peer, and write docs/benchmarks.md.
#[derive(Debug, Args)]
pub struct Bench {
    /// Only print, without writing docs/benchmarks.md
    #[arg(long)]
    print: bool,
}

/// One line of the table.
pub struct Figure {
    pub what: String,
    pub ours: String,
    pub peer: String,
    pub goal: &'static str,
}

impl Figure {
    pub fn new(what: impl Into<String>, ours: impl Into<String>, peer: impl Into<String>, goal: &'static str) -> Self {
        Self {
            what: what.into(),
            ours: ours.into(),
            peer: peer.into(),
            goal,
        }
    }
}

impl Bench {
    pub fn run(&self) -> Result<()> {
        if cfg!(debug_assertions) {
            return self.in_release();
        }
        Packages::ensure(&PACKAGES)?;
        let names: Vec<&str> = programs::PACKAGES.iter().map(|(name, _)| *name).collect();
        programs::build(&names, programs::Loudness::Progress)?;
        let mut figures = measure::sizes()?;
        figures.push(measure::cli_start()?);
        let plan = ["one", "two", "three"]
            .iter()
            .fold(LabPlan::new("bench", "bench"), |plan, name| plan.host(name, "bench"));
        eprintln!("starting a controller and three agents");
        let lab = plan.start()?;
        figures.push(measure::at_rest(&lab)?);
        figures.extend(measure::burn(&lab)?);
        figures.push(measure::stop(&lab)?);
        interrupt::check()?;
        let table = table(&figures);
        print!("{table}");
        if !self.print {
            let page = format!(
                "# Benchmarks\n\nWritten by `cargo xtask bench` on {}. Compare the columns, not machines.\n\n{table}",
                measure::machine()
            );
            std::fs::write(programs::repository().join("docs/benchmarks.md"), page)?;
        }
        Ok(())
    }

    /// Figures of a debug build mean nothing: become the release build of this program.
    fn in_release(&self) -> Result<()> {
        let mut line = vec!["run", "--release", "--package", "deploy-xtask", "--", "bench"];
        line.extend(self.print.then_some("--print"));
        let built = cargo::command(&line)?;
        let mut command = Command::new(built.get_program());
        command
            .args(built.get_args())
            .envs(built.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(programs::repository());
        Err(command.exec().into())
    }
}

fn table(figures: &[Figure]) -> String {
    let mut text = String::from("| what | ours | peer | goal |\n|---|---|---|---|\n");
    for figure in figures {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {} | {} | {} |", figure.what, figure.ours, figure.peer, figure.goal);
    }
    text
}
