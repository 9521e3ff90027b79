//! The ladder of suites: which there are, what each needs, and how one is run; the suites themselves are elsewhere.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use tests_harness::{Fleet, Packages, interrupt, packages, programs};
use tests_notes::Note;

use crate::machines::{Images, Machines, Source};
use crate::summary::{Counts, Outcome, Summary};
use crate::unavailable::{List, present};
use crate::{cargo, deny};

/// Run every suite, rung by rung.
#[derive(Debug, Args)]
pub struct Test {
    /// Only these rungs (repeat, or with commas): tidy, lint, bans, pure, fake, harness, loopback, contest, browser, vm; with vm named, its
    /// packages are those of a release
    #[arg(long, value_name = "RUNG", value_delimiter = ',')]
    rung: Vec<String>,
    #[command(flatten)]
    machines: Machines,
    /// Fail if anything is skipped: a test, a part of one, a rung, a tool
    #[arg(long)]
    nothing_skipped: bool,
}

/// One step of the ladder.
struct Rung {
    name: &'static str,
    what: &'static str,
    how: How,
}

enum How {
    /// Suites of these packages; a star stands for all packages of a folder.
    Suites { packages: &'static [&'static str], root: bool },
    /// Cargo commands that succeed or not.
    Checks(&'static [&'static [&'static str]]),
    /// cargo-deny, which is installed below the target folder when the machine has none.
    Deny,
    /// Cases on virtual machines.
    Machines,
}

const RUNGS: [Rung; 10] = [
    Rung {
        name: "tidy",
        what: "the house rules",
        how: How::Suites {
            packages: &["tests-tidy"],
            root: false,
        },
    },
    Rung {
        name: "lint",
        what: "formatting and clippy",
        how: How::Checks(&[
            &["fmt", "--all", "--check"],
            &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"],
        ]),
    },
    Rung {
        name: "bans",
        what: "licences and sources of dependencies",
        how: How::Deny,
    },
    Rung {
        name: "pure",
        what: "everything that needs no host",
        how: How::Suites {
            packages: &["proto-*", "controller-*", "tests-notes"],
            root: false,
        },
    },
    Rung {
        name: "fake",
        what: "faults and their undoing on a fake host",
        how: How::Suites {
            packages: &["agent-*", "tests-fuzz"],
            root: false,
        },
    },
    Rung {
        name: "harness",
        what: "hosts made of namespaces",
        how: How::Suites {
            packages: &["tests-harness", "deploy-xtask", "tests-vm"],
            root: true,
        },
    },
    Rung {
        name: "loopback",
        what: "real programs over real connections",
        how: How::Suites {
            packages: &["tests-it", "tests-fleet"],
            root: false,
        },
    },
    Rung {
        name: "contest",
        what: "each fault on this kernel, in hosts of its own",
        how: How::Suites {
            packages: &["tests-contest"],
            root: true,
        },
    },
    Rung {
        name: "browser",
        what: "the dashboard, as a reader sees it",
        how: How::Suites {
            packages: &["tests-browser"],
            root: true,
        },
    },
    Rung {
        name: "vm",
        what: "our packages on real Debian hosts in virtual machines",
        how: How::Machines,
    },
];

impl Rung {
    /// Whether a test, named as nextest does, is one of this rung's suites.
    fn runs(&self, test: &str) -> bool {
        let How::Suites { packages, .. } = self.how else { return false };
        let package = test.split([' ', ':']).next().unwrap_or_default();
        packages.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(opening) => package.starts_with(opening),
            None => package == *pattern,
        })
    }
}

/// How many tests that make hosts run at once; .config/nextest.toml says the same.
const HOSTS_AT_ONCE: &str = "2";
/// Debian packages that the suites of agents and those on this kernel stand on.
const PACKAGES: [&str; 4] = ["btrfs-progs", "iproute2", "nftables", "systemd"];

impl Test {
    pub fn run(&self) -> Result<ExitCode> {
        for name in &self.rung {
            if !RUNGS.iter().any(|rung| rung.name == name) {
                let names: Vec<&str> = RUNGS.iter().map(|rung| rung.name).collect();
                bail!("no rung {name} (there are: {})", names.join(", "));
            }
        }
        let chosen = |rung: &&Rung| self.rung.is_empty() || self.rung.iter().any(|name| name == rung.name);
        let (wanted, others): (Vec<_>, Vec<_>) = RUNGS.iter().partition(chosen);
        let climbs_machines = wanted.iter().any(|rung| matches!(rung.how, How::Machines));
        if let Some(option) = self.machines.first_option().filter(|_| !climbs_machines) {
            bail!("{option} is for the rung vm, which --rung does not name");
        }
        let source = if self.machines.quick || self.rung.is_empty() && !self.machines.long {
            Source::Suites
        } else {
            Source::Release
        };
        let mut summary = Summary::default();
        if let Err(error) = climb(&wanted, &self.machines, source, &mut summary) {
            // What the rungs before it have shown is printed all the same.
            if !summary.is_empty() {
                println!("{summary}");
            }
            return Err(error);
        }
        if climbs_machines {
            self.machines.left_out()?.into_iter().for_each(|line| summary.leave_out(line));
        }
        for rung in others {
            summary.leave_out(format!("{}: --rung does not name it", rung.name));
        }
        println!("{summary}");
        let passed = summary.passed(self.nothing_skipped);
        if !passed && summary.passed(false) {
            println!("failed, since --nothing-skipped allows no skip");
        }
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Runs one rung alone.
pub fn only(name: &str) -> Result<ExitCode> {
    Test {
        rung: vec![name.to_owned()],
        machines: Machines::default(),
        nothing_skipped: false,
    }
    .run()
}

fn climb(rungs: &[&Rung], machines: &Machines, source: Source, summary: &mut Summary) -> Result<()> {
    let mut ladder = Ladder::prepare(rungs, machines, source)?;
    let list = List::read(programs::repository())?;
    for (number, rung) in rungs.iter().enumerate() {
        eprintln!("\n== {}/{} {}: {}", number + 1, rungs.len(), rung.name, rung.what);
        let (start, before) = (Instant::now(), ladder.notes()?.len());
        let outcome = ladder.run(rung)?;
        let notes = ladder.notes()?.split_off(before);
        if matches!(rung.how, How::Deny) {
            summary.leave_out(format!("{}: {}", rung.name, deny::LEFT_OUT));
        }
        summary.add_undone(&notes);
        let verdict = list.judge(&notes, |test| rung.runs(test), present)?;
        summary.add(rung.name, outcome, verdict, start.elapsed());
    }
    Ok(())
}

/// What all rungs share.
struct Ladder<'a> {
    machines: &'a Machines,
    source: Source,
    images: Images,
    nextest: bool,
    /// Why rungs that need root cannot be climbed.
    no_root: Option<String>,
    notes: PathBuf,
}

impl<'a> Ladder<'a> {
    fn prepare(rungs: &[&Rung], machines: &'a Machines, source: Source) -> Result<Self> {
        let notes = programs::target_folder()?.join("test-notes.jsonl");
        std::fs::remove_file(&notes).ok();
        let no_root = Fleet::impossible();
        let suites = rungs
            .iter()
            .any(|rung| matches!(rung.how, How::Suites { .. }) && rung.name != "tidy");
        if suites && no_root.is_none() {
            Packages::ensure(&PACKAGES)?;
        }
        let images = if rungs.iter().any(|rung| matches!(rung.how, How::Machines)) && no_root.is_none() {
            machines.begin_images()?
        } else {
            Images::default()
        };
        if suites {
            eprintln!("== building the programs");
            programs::build_all(programs::Loudness::Progress)?;
        }
        Ok(Self {
            machines,
            source,
            images,
            nextest: cargo::has("nextest"),
            no_root,
            notes,
        })
    }

    fn notes(&self) -> Result<Vec<Note>> {
        tests_notes::notes(&self.notes).with_context(|| format!("read {}", self.notes.display()))
    }

    fn run(&mut self, rung: &Rung) -> Result<Outcome> {
        if matches!(rung.how, How::Suites { .. }) && rung.name != "tidy" {
            // Nothing is built beside what measures time.
            self.images.wait();
        }
        match rung.how {
            How::Checks(checks) => check(checks),
            How::Deny => deny::run(),
            How::Machines => self.cases(),
            How::Suites { root: true, .. } if self.no_root.is_some() => Ok(Outcome::Skipped(self.no_root.clone().unwrap_or_default())),
            How::Suites { packages, root } => self.suites(packages, root),
        }
    }

    fn cases(&mut self) -> Result<Outcome> {
        if let Some(reason) = &self.no_root {
            return Ok(Outcome::Skipped(reason.clone()));
        }
        let ran = self.images.took().and_then(|took| self.machines.run(self.source, took));
        ran.or_else(|error| {
            interrupt::check()?;
            // What the other rungs have shown is said all the same.
            eprintln!("vm: {error:#}");
            Ok(Outcome::ran(false, Counts::default()))
        })
    }

    fn suites(&self, packages: &[&str], hosts: bool) -> Result<Outcome> {
        let mut line = if self.nextest {
            vec!["nextest", "run", "--no-fail-fast"]
        } else {
            vec!["test", "--no-fail-fast"]
        };
        if self.nextest {
            line.extend(["--no-tests", "fail"]);
        }
        for package in packages {
            line.extend(["--package", package]);
        }
        if !self.nextest && hosts {
            line.extend(["--", "--test-threads", HOSTS_AT_ONCE]);
        }
        let mut cargo = cargo::command(&line)?;
        cargo
            .env(programs::BUILT, "yes")
            .env(tests_notes::FILE, &self.notes)
            .env("PATH", packages::path());
        let (status, said) = cargo::watch(cargo)?;
        Ok(Outcome::ran(status.success(), Counts::read(&said)))
    }
}

fn check(checks: &[&[&str]]) -> Result<Outcome> {
    let (mut counts, mut missing) = (Counts::default(), Vec::new());
    for line in checks {
        let tool = line.first().copied().context("a check has a command")?;
        if !cargo::has(tool) {
            missing.push(format!("cargo {tool} is not installed"));
            continue;
        }
        let (status, _) = cargo::watch(cargo::command(line)?)?;
        if status.success() { counts.passed += 1 } else { counts.failed += 1 }
    }
    if counts == Counts::default() && !missing.is_empty() {
        return Ok(Outcome::Skipped(missing.join("; ")));
    }
    Ok(Outcome::Ran {
        success: counts.failed == 0,
        counts,
        skipped: missing,
    })
}

/// How long something took, as people say it.
pub fn spoken(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}
