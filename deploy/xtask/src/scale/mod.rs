//! `cargo xtask bench scale`: the controller beside a simulated fleet over real TLS, each figure with its goal; what is missed is said to be.

mod figures;
mod fleet;
mod history;
mod outsiders;
mod site;
mod steps;

use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use tests_harness::limits::raise_open_files;
use tests_harness::{interrupt, programs};

use crate::{cargo, measure};
use figures::{Figure, table};

/// Where the section begins in docs/benchmarks.md; it goes to the end of the file.
const HEADING: &str = "## Scale";
const PAGE: &str = "docs/benchmarks.md";
/// Open files for a controller and a fleet of the largest size.
const FILES: u64 = 65_536;

const HOW: &str = "How each was taken, on release builds, with a controller on loopback with its ordinary settings and a fleet simulated by
`fracas-test-fleet`: mutual TLS 1.3, one session and one address of 127.0.0.0/8 for each host. Load is the machine's load average over one minute
when the figure was taken; whatever else runs takes from it.

- Memory: `Pss` in smaps_rollup of the controller, less that of the same controller before the first host joined, by host: three seconds after the last
  host was welcomed, and the largest of five looks a second during a run of 10 s over every host. Fixed memory weighs on small fleets: the goals per
  host are for 10,000.
- Enrolment: from the first key until the last certificate, keys, requests and TLS of the simulator included.
- Plans: the whole command, its start included.
- Run: from the moment when the last simulated host ended its injection until `fracas attack` has ended; it counts when the run is proven clean.
- Halt: from before the command starts until the last host has read the order, by the machine's monotonic clock, over several halts. The echo is a plain
  tonic server with the same calls and TLS that sends one message to as many streams, from before the first is queued.
- Back: from before the next controller is started at the same address until the last host was welcomed.
- Finished runs: made by events of ordinary size through the store's own interface, and compacted as a controller does after each run; ready is until
  `fracas status` answers.
- Outsiders: 1,003 connections over TLS without a certificate and 320 without a byte, from 16 addresses, opened again when they are closed.
- Steps: from the event that ends a step until the event that starts the next, as the controller dates them.
";

/// Hold a simulated fleet against the controller, and write a section of docs/benchmarks.md.
#[derive(Debug, Args)]
pub struct Scale {
    /// Sizes of the fleet
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    hosts: Vec<u32>,

    /// How many finished runs the store holds
    #[arg(long, default_value_t = 100_000)]
    runs: u32,

    /// Leave the events of finished runs in rows, as a former version did; the controller compacts them while the figures are taken
    #[arg(long, requires = "print")]
    in_rows: bool,

    /// Halts of each fleet
    #[arg(long, default_value_t = 10)]
    halts: u32,

    /// Only these rows; they are printed and not written
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Rows>,

    /// Only print, without writing docs/benchmarks.md
    #[arg(long)]
    print: bool,

    /// On programs as they were built for tests, to try the bench itself; what it prints is no figure
    #[arg(long, requires = "print")]
    debug: bool,
}

/// Rows that are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// Memory, plans, runs, halts and recovery with fleets of each size
    Fleet,
    /// With many finished runs in the store
    History,
    /// With connections that never say who they are
    Outsiders,
    /// Between two steps of a run
    Steps,
}

impl Scale {
    pub fn run(&self) -> Result<()> {
        if cfg!(debug_assertions) && !self.debug {
            return self.in_release();
        }
        programs::build_all(programs::Loudness::Progress)?;
        raise_open_files(FILES).context("raise the limit of open files")?;
        let before = measure::machine();
        let mut figures = Vec::new();
        for rows in Rows::value_variants() {
            if self.only.is_empty() || self.only.contains(rows) {
                self.take(*rows, &mut figures)?;
            }
        }
        let table = table(&figures);
        println!("{table}");
        if !self.print && self.only.is_empty() {
            let page = programs::repository().join(PAGE);
            let section = section(&before, &table);
            std::fs::write(&page, with_section(&std::fs::read_to_string(&page)?, &section))?;
        }
        Ok(())
    }

    fn take(&self, rows: Rows, figures: &mut Vec<Figure>) -> Result<()> {
        match rows {
            Rows::Fleet => {
                for hosts in &self.hosts {
                    fleet::measure(*hosts, self.halts, figures).with_context(|| format!("measure {hosts} hosts"))?;
                    interrupt::check()?;
                }
                Ok(())
            }
            Rows::History => history::measure(self.runs, self.in_rows, figures),
            Rows::Outsiders => outsiders::measure(figures),
            Rows::Steps => steps::measure(figures),
        }
    }

    /// Figures of a debug build mean nothing: become the release build of this program.
    fn in_release(&self) -> Result<()> {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        let mut line: Vec<String> = ["run", "--release", "--package", "deploy-xtask", "--", "bench", "scale"]
            .map(str::to_owned)
            .into();
        line.push(format!("--hosts={}", hosts.join(",")));
        line.push(format!("--runs={}", self.runs));
        line.push(format!("--halts={}", self.halts));
        line.extend(self.print.then(|| "--print".to_owned()));
        line.extend(self.in_rows.then(|| "--in-rows".to_owned()));
        let only = self
            .only
            .iter()
            .filter_map(|rows| Some(format!("--only={}", rows.to_possible_value()?.get_name())));
        line.extend(only);
        let built = cargo::command(&line.iter().map(String::as_str).collect::<Vec<_>>())?;
        let mut command = Command::new(built.get_program());
        command
            .args(built.get_args())
            .envs(built.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .current_dir(programs::repository());
        Err(command.exec().into())
    }
}

fn section(machine: &str, table: &str) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{HEADING}\n\nWritten by `cargo xtask bench scale` on {machine}.\n\n{table}\n{HOW}"
    );
    text
}

/// The page with this section at its end, in place of the one it had.
fn with_section(page: &str, section: &str) -> String {
    let (before, _) = split(page);
    format!("{}\n\n{section}", before.trim_end())
}

/// A page that is written anew keeps the section of the one before.
pub fn keep_section(old: &str, new: &str) -> String {
    match split(old).1 {
        Some(section) => with_section(new, section),
        None => new.to_owned(),
    }
}

fn split(page: &str) -> (&str, Option<&str>) {
    match page.find(&format!("\n{HEADING}\n")) {
        Some(at) => (&page[..at], Some(&page[at + 1..])),
        None => (page, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bench_keeps_what_the_other_wrote() {
        let first = with_section("# Benchmarks\n\na table\n", "## Scale\n\nold\n");
        assert_eq!(first, "# Benchmarks\n\na table\n\n## Scale\n\nold\n");
        assert_eq!(
            with_section(&first, "## Scale\n\nnew\n"),
            "# Benchmarks\n\na table\n\n## Scale\n\nnew\n"
        );
        assert_eq!(
            keep_section(&first, "# Benchmarks\n\nanother\n"),
            "# Benchmarks\n\nanother\n\n## Scale\n\nold\n"
        );
        assert_eq!(keep_section("# Benchmarks\n", "# New\n"), "# New\n");
    }
}
