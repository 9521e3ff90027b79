//! `cargo xtask test --rung vm` and `cargo xtask vm`: which machines are made, and of which packages.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use tests_vm::{Site, Suite, cases, console};

use crate::package::Package;
use crate::summary::{Counts, Outcome};

/// What the rung vm runs.
#[derive(Debug, Default, Args)]
pub struct Machines {
    /// Of the rung vm only these cases (repeat, or with commas): install, faults, kill, reset, purge
    #[arg(long = "case", value_name = "CASE", value_delimiter = ',')]
    cases: Vec<String>,
    /// The releases of Debian that the rung vm runs on: bullseye, bookworm, trixie [default: bookworm]
    #[arg(long = "suite", value_name = "SUITE", value_delimiter = ',')]
    suites: Vec<Suite>,
    /// Where the debs for the rung vm are, instead of making them anew
    #[arg(long, value_name = "DIR")]
    debs: Option<PathBuf>,
}

impl Machines {
    pub fn run(&self) -> Result<Outcome> {
        let debs = debs(self.debs.as_ref())?;
        let suites = if self.suites.is_empty() {
            vec![Suite::Bookworm]
        } else {
            self.suites.clone()
        };
        let (mut success, mut counts) = (true, Counts::default());
        for suite in suites {
            let table = cases::run(suite, &debs, &self.cases)?;
            println!("\n{suite}\n{table}");
            let (passed, failed) = table.cases();
            success &= failed == 0;
            counts.passed += passed;
            counts.failed += failed;
        }
        Ok(Outcome::Ran { success, counts })
    }
}

/// Those of a folder, or those that are made of this tree.
fn debs(folder: Option<&PathBuf>) -> Result<PathBuf> {
    match folder {
        Some(folder) => folder.canonicalize().with_context(|| format!("find {}", folder.display())),
        None => Package::debs(),
    }
}

#[derive(Debug, Subcommand)]
pub enum Vm {
    /// Start a machine and open a root shell on its console; Ctrl-] leaves, and the machine is gone
    Shell(Shell),
}

#[derive(Debug, Args)]
pub struct Shell {
    #[arg(long, default_value = "bookworm", value_name = "SUITE")]
    suite: Suite,
    /// Debs to have below /media/packages
    #[arg(long, value_name = "DIR")]
    debs: Option<PathBuf>,
    /// Install them, and make the machine a host of its own controller
    #[arg(long, requires = "debs")]
    enrolled: bool,
}

impl Vm {
    pub fn run(&self) -> Result<()> {
        let Self::Shell(shell) = self;
        shell.run()
    }
}

impl Shell {
    fn run(&self) -> Result<()> {
        ensure!(std::io::IsTerminal::is_terminal(&std::io::stdin()), "a shell needs a terminal");
        let mut site = Site::start(self.suite, self.debs.as_deref())?;
        site.machine().settle()?;
        if self.enrolled {
            site.ready()?;
        }
        let neighbour = site.neighbour().v4();
        eprintln!(
            "{} at {}, with a neighbour db at {neighbour}; Ctrl-] leaves",
            self.suite,
            site.machine().v4()
        );
        console::attach(site.machine())
    }
}
