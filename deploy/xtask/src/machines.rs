//! `cargo xtask test --rung vm` and `cargo xtask vm`: which machines are made, and of which packages.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, Subcommand};
use tests_harness::interrupt;
use tests_vm::cases::{self, Extent, Selection};
use tests_vm::look::LOOK;
use tests_vm::table::Table;
use tests_vm::{Image, Kit, Site, Suite, console};

use crate::measured::{self, Measured};
use crate::package::Package;
use crate::rungs::spoken;
use crate::summary::{Counts, Outcome};

/// What the rung vm runs.
#[derive(Debug, Default, Args)]
pub struct Machines {
    /// Run the long cases of the rung vm too: all cases on Debian 12, and the short ones on Debian 11 and 13
    #[arg(long)]
    pub long: bool,
    /// Of the rung vm only these cases, short or long (repeat, or with commas)
    #[arg(long = "case", value_name = "CASE", value_delimiter = ',')]
    cases: Vec<String>,
    /// The releases of Debian that the rung vm runs on: bullseye, bookworm, trixie [default: bookworm; all with --long]
    #[arg(long = "suite", value_name = "SUITE", value_delimiter = ',')]
    suites: Vec<Suite>,
    /// Where the debs for the rung vm are, instead of making them anew
    #[arg(long, value_name = "DIR")]
    debs: Option<PathBuf>,
    /// Make the debs for the rung vm of the programs that are built for the other rungs, instead of a release
    #[arg(long, conflicts_with = "debs")]
    pub quick: bool,
    /// Write the measured times into docs/safety.md, if every case has passed
    #[arg(long, requires = "long", conflicts_with_all = ["cases", "debs", "quick", "suites"])]
    record: bool,
}

/// What runs on which suite.
type Plan = Vec<(Suite, Selection)>;

/// Where the debs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Those that `cargo xtask package` makes.
    Release,
    /// Programs that were built for the other rungs.
    Suites,
}

impl Source {
    /// By how much limits are longer than those of a release: programs that are not optimised took 4.7 s of 5 on a quiet machine, and others
    /// are less quiet.
    fn slack(self) -> u32 {
        match self {
            Self::Release => 1,
            Self::Suites => 3,
        }
    }
}

/// Images that are built beside other work; the default needs none.
#[derive(Default)]
pub struct Images {
    thread: Option<JoinHandle<Result<Duration>>>,
    outcome: Option<Result<Duration>>,
}

impl Images {
    /// Waits until they are there, or cannot be.
    pub fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            self.outcome = Some(joined.unwrap_or_else(|_| Err(anyhow!("the thread that builds images has panicked"))));
        }
    }

    /// Waits, and returns what the images took, or why they are not there.
    pub fn took(&mut self) -> Result<Duration> {
        self.wait();
        self.outcome.take().unwrap_or(Ok(Duration::ZERO))
    }
}

impl Machines {
    /// Begins to build the images that are not there yet.
    pub fn begin_images(&self) -> Result<Images> {
        let images: Vec<(Suite, Kit)> = self
            .plan()?
            .into_iter()
            .map(|(suite, selection)| (suite, selection.kit()))
            .collect();
        let build = move || {
            let begin = Instant::now();
            for (suite, kit) in images {
                Image::ensure(suite, kit)?;
            }
            Ok(begin.elapsed())
        };
        let thread = std::thread::Builder::new().name("images".into());
        Ok(Images {
            thread: Some(thread.spawn(build)?),
            outcome: None,
        })
    }

    /// Puts the machines through their cases; `images` says how long the images took.
    pub fn run(&self, source: Source, images: Duration) -> Result<Outcome> {
        let (plan, skipped) = split(self.plan()?, |suite| self.unfit(source, suite))?;
        if plan.is_empty() {
            return Ok(Outcome::Skipped(skipped.join("; ")));
        }
        let slack = if self.debs.is_none() { source.slack() } else { 1 };
        let begin = Instant::now();
        let debs = self.debs(source, &plan)?;
        let mut stages = format!("images {}, packages {}", spoken(images), spoken(begin.elapsed()));
        let (mut success, mut counts) = (true, Counts::default());
        let mut measured = Measured::default();
        for (suite, selection) in plan {
            let begin = Instant::now();
            let table = match cases::run(suite, &debs, &selection, slack) {
                Ok(table) => table,
                Err(error) => {
                    interrupt::check()?;
                    // The other releases are tried all the same.
                    eprintln!("vm: {}: {error:#}", suite.title());
                    (success, counts.failed) = (false, counts.failed + 1);
                    continue;
                }
            };
            stages += &format!(", {suite} {}", spoken(begin.elapsed()));
            println!("\n{}\n{table}", suite.title());
            let of_suite = count_cases(&selection, &table);
            success &= of_suite.failed == 0;
            counts.passed += of_suite.passed;
            counts.failed += of_suite.failed;
            measured.add(suite, &table);
        }
        println!("{stages}");
        if slack > 1 {
            println!("with programs as they were built for the suites, which are slower: limits are {slack} times those of a release");
        }
        if self.record && !success {
            println!("nothing is recorded, since a case has failed");
        } else if self.record
            && let Err(error) = measured::record(&measured)
        {
            eprintln!("vm: the times could not be recorded: {error:#}");
            success = false;
        }
        Ok(Outcome::Ran { success, counts, skipped })
    }

    /// The first of the options that was given.
    pub fn first_option(&self) -> Option<&'static str> {
        let options = [
            ("--long", self.long),
            ("--case", !self.cases.is_empty()),
            ("--suite", !self.suites.is_empty()),
            ("--debs", self.debs.is_some()),
            ("--quick", self.quick),
            ("--record", self.record),
        ];
        options.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    /// How many cases are not asked for on which release, a line each.
    pub fn left_out(&self) -> Result<Vec<String>> {
        let (plan, all) = (self.plan()?, cases::all().count());
        let chosen = |suite: Suite| {
            let planned = plan.iter().find(|(planned, _)| *planned == suite);
            planned.map_or(0, |(_, selection)| selection.cases().count())
        };
        let missing = Suite::ALL.map(|suite| (suite, all - chosen(suite)));
        let missing = missing.into_iter().filter(|(_, missing)| *missing > 0);
        let line = |(suite, missing): (Suite, usize)| {
            format!(
                "vm: {missing} of {all} cases on {} (--long, --case and --suite choose them)",
                suite.title()
            )
        };
        Ok(missing.map(line).collect())
    }

    fn plan(&self) -> Result<Plan> {
        let named = !self.suites.is_empty();
        let suites = match (named, self.long) {
            (true, _) => self.suites.clone(),
            (false, true) => vec![Suite::Bookworm, Suite::Bullseye, Suite::Trixie],
            (false, false) => vec![Suite::Bookworm],
        };
        let plan = suites.into_iter().map(|suite| {
            let selection = if !self.cases.is_empty() {
                Selection::named(&self.cases)?
            } else if self.long && (named || suite == Suite::Bookworm) {
                Selection::UpTo(Extent::Long)
            } else {
                Selection::UpTo(Extent::Short)
            };
            Ok((suite, selection))
        });
        plan.collect()
    }

    /// Why what is built on this machine does not run on a suite that it would be needed on.
    fn unfit(&self, source: Source, suite: Suite) -> Result<Option<String>> {
        match (&self.debs, source) {
            (Some(folder), _) if folder.join(LOOK).exists() => Ok(None),
            (Some(_), _) => Package::unfit(suite, &[LOOK]),
            (None, Source::Release) => Ok(None),
            (None, Source::Suites) => Package::unfit(suite, &["fracas-agent", "fracas-controller", "fracas", LOOK]),
        }
    }

    fn debs(&self, source: Source, plan: &[(Suite, Selection)]) -> Result<PathBuf> {
        match (&self.debs, source) {
            (Some(folder), _) => folder.canonicalize().with_context(|| format!("find {}", folder.display())),
            (None, Source::Release) => Package::for_machines(),
            (None, Source::Suites) => {
                let oldest = plan.iter().map(|(suite, _)| *suite).min();
                Package::of_suites(oldest.context("there is a suite")?)
            }
        }
    }
}

/// What runs, and why each other suite does not.
fn split(plan: Plan, unfit: impl Fn(Suite) -> Result<Option<String>>) -> Result<(Plan, Vec<String>)> {
    let (mut fit, mut reasons) = (Vec::new(), Vec::new());
    for (suite, selection) in plan {
        match unfit(suite)? {
            Some(reason) => reasons.push(reason),
            None => fit.push((suite, selection)),
        }
    }
    Ok((fit, reasons))
}

/// How many cases have passed; one without a figure has failed.
fn count_cases(selection: &Selection, table: &Table) -> Counts {
    let silent: Vec<&str> = selection
        .cases()
        .map(|case| case.name)
        .filter(|name| table.of(name).next().is_none())
        .collect();
    if !silent.is_empty() {
        println!("no result of {}", silent.join(", "));
    }
    let (passed, failed) = table.cases();
    Counts {
        passed,
        failed: failed + silent.len() as u64,
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
    /// With what is installed for long cases
    #[arg(long)]
    long: bool,
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
        let kit = if self.long { Kit::Large } else { Kit::Small };
        let mut site = Site::start(self.suite, kit, self.debs.as_deref())?;
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

#[cfg(test)]
mod tests {
    use tests_vm::table::Row;

    use super::*;

    fn planned(long: bool, cases: &[&str], suites: &[Suite]) -> Vec<(Suite, Selection)> {
        let machines = Machines {
            long,
            cases: cases.iter().map(|name| (*name).to_owned()).collect(),
            suites: suites.to_vec(),
            ..Machines::default()
        };
        machines.plan().unwrap()
    }

    #[test]
    fn long_cases_run_on_one_suite_and_on_those_that_are_named() {
        let (short, long) = (Selection::UpTo(Extent::Short), Selection::UpTo(Extent::Long));
        assert_eq!(planned(false, &[], &[]), [(Suite::Bookworm, short.clone())]);
        assert_eq!(
            planned(true, &[], &[]),
            [
                (Suite::Bookworm, long.clone()),
                (Suite::Bullseye, short.clone()),
                (Suite::Trixie, short.clone())
            ]
        );
        assert_eq!(planned(true, &[], &[Suite::Trixie]), [(Suite::Trixie, long)]);
        assert_eq!(planned(false, &[], &[Suite::Trixie]), [(Suite::Trixie, short)]);
        let named = Selection::Named(vec!["kill".into()]);
        assert_eq!(planned(false, &["kill"], &[]), [(Suite::Bookworm, named)]);
    }

    #[test]
    fn every_case_that_is_not_asked_for_is_counted_as_left_out() -> Result<()> {
        let all = cases::all().count();
        let left_out = |machines: Machines| -> Result<Vec<String>> {
            let lines = machines.left_out()?;
            Ok(lines
                .iter()
                .map(|line| line.split(" (").next().unwrap_or_default().to_owned())
                .collect())
        };
        let one = Machines {
            cases: vec!["kill".into()],
            ..Machines::default()
        };
        assert_eq!(one.first_option(), Some("--case"));
        assert_eq!(
            left_out(one)?,
            [
                format!("vm: {all} of {all} cases on Debian 11"),
                format!("vm: {} of {all} cases on Debian 12", all - 1),
                format!("vm: {all} of {all} cases on Debian 13"),
            ]
        );
        let long = Machines {
            long: true,
            ..Machines::default()
        };
        assert_eq!((Machines::default().first_option(), long.first_option()), (None, Some("--long")));
        let lines = left_out(long)?;
        assert!(
            lines.len() == 2 && !lines.iter().any(|line| line.contains("Debian 12")),
            "{lines:?}"
        );
        Ok(())
    }

    #[test]
    fn an_unfit_suite_is_left_out_with_its_reason_and_the_others_run() -> Result<()> {
        let plan = planned(true, &[], &[]);
        let (fit, reasons) = split(plan.clone(), |suite| {
            Ok((suite == Suite::Bullseye).then(|| suite.title().to_owned()))
        })?;
        let others: Plan = plan.into_iter().filter(|(suite, _)| *suite != Suite::Bullseye).collect();
        assert_eq!((fit, others.len()), (others.clone(), 2));
        assert_eq!(reasons, ["Debian 11"]);
        Ok(())
    }

    #[test]
    fn a_case_without_a_figure_has_failed() {
        let selection = Selection::Named(vec!["kill".into(), "reset".into()]);
        let mut table = Table::default();
        table.add(Row {
            case: "kill",
            what: "the whole case".into(),
            took: Duration::ZERO,
            limit: None,
            failed: None,
        });
        assert_eq!(count_cases(&selection, &table), Counts { passed: 1, failed: 1 });
    }
}
