//! The ladder of suites: which there are, what each needs, and how one is run; the suites themselves are elsewhere.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use tests_harness::{Fleet, Packages, packages, programs, report};

use crate::cargo;
use crate::summary::{Counts, Outcome, Summary};

/// Run every suite, rung by rung.
#[derive(Debug, Args)]
pub struct Test {
    /// Only these rungs (repeat, or with commas): tidy, lint, bans, pure, fake, harness, loopback, contest, browser
    #[arg(long, value_name = "RUNG", value_delimiter = ',')]
    rung: Vec<String>,
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
}

const RUNGS: [Rung; 9] = [
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
        name: BANS,
        what: "licences and sources of dependencies",
        how: How::Checks(&[&["deny", "--offline", "check", "bans", "licenses", "sources"]]),
    },
    Rung {
        name: "pure",
        what: "everything that needs no host",
        how: How::Suites {
            packages: &["proto-*", "controller-*"],
            root: false,
        },
    },
    Rung {
        name: "fake",
        what: "faults and their undoing on a fake host",
        how: How::Suites {
            packages: &["agent-*"],
            root: false,
        },
    },
    Rung {
        name: "harness",
        what: "hosts made of namespaces",
        how: How::Suites {
            packages: &["tests-harness", "deploy-xtask"],
            root: true,
        },
    },
    Rung {
        name: "loopback",
        what: "real programs over real connections",
        how: How::Suites {
            packages: &["tests-it"],
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
];

/// The rung that needs a tool which cargo does not bring.
const BANS: &str = "bans";
/// How many tests that make hosts run at once; .config/nextest.toml says the same.
const HOSTS_AT_ONCE: &str = "2";
/// Debian packages that the rungs on this kernel stand on.
const PACKAGES: [&str; 2] = ["iproute2", "nftables"];

impl Test {
    pub fn run(&self) -> Result<ExitCode> {
        for name in &self.rung {
            if !RUNGS.iter().any(|rung| rung.name == name) {
                let names: Vec<&str> = RUNGS.iter().map(|rung| rung.name).collect();
                bail!("no rung {name} (there are: {})", names.join(", "));
            }
        }
        let here = |rung: &&Rung| rung.name != BANS || cargo::has("deny");
        if self.rung.is_empty() && !RUNGS.iter().all(|rung| here(&rung)) {
            eprintln!("cargo deny is not installed: sources are checked by tests/tidy, licences are not");
        }
        let chosen = |rung: &&Rung| {
            if self.rung.is_empty() {
                here(rung)
            } else {
                self.rung.iter().any(|name| name == rung.name)
            }
        };
        let wanted = RUNGS.iter().filter(chosen);
        climb(&wanted.collect::<Vec<_>>())
    }
}

/// Runs one rung alone.
pub fn only(name: &str) -> Result<ExitCode> {
    Test {
        rung: vec![name.to_owned()],
    }
    .run()
}

fn climb(rungs: &[&Rung]) -> Result<ExitCode> {
    let ladder = Ladder::prepare(rungs)?;
    let mut summary = Summary::default();
    for (number, rung) in rungs.iter().enumerate() {
        eprintln!("\n== {}/{} {}: {}", number + 1, rungs.len(), rung.name, rung.what);
        let (start, before) = (Instant::now(), ladder.notes().len());
        let outcome = ladder.run(rung)?;
        let notes = ladder.notes().split_off(before);
        summary.add(rung.name, outcome, &notes, start.elapsed());
    }
    println!("{summary}");
    Ok(if summary.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What all rungs share.
struct Ladder {
    nextest: bool,
    /// Why rungs that need root cannot be climbed.
    no_root: Option<String>,
    notes: PathBuf,
}

impl Ladder {
    fn prepare(rungs: &[&Rung]) -> Result<Self> {
        let notes = programs::target_folder()?.join("test-notes.jsonl");
        std::fs::remove_file(&notes).ok();
        let needs_root = rungs.iter().any(|rung| matches!(rung.how, How::Suites { root: true, .. }));
        let no_root = if needs_root { Fleet::impossible() } else { None };
        let suites = rungs
            .iter()
            .any(|rung| matches!(rung.how, How::Suites { .. }) && rung.name != "tidy");
        if needs_root && no_root.is_none() {
            Packages::ensure(&PACKAGES)?;
        }
        if suites {
            eprintln!("== building the programs");
            programs::build_all(programs::Loudness::Progress)?;
        }
        Ok(Self {
            nextest: cargo::has("nextest"),
            no_root,
            notes,
        })
    }

    fn notes(&self) -> Vec<report::Note> {
        report::notes(&self.notes)
    }

    fn run(&self, rung: &Rung) -> Result<Outcome> {
        match rung.how {
            How::Checks(checks) => check(checks),
            How::Suites { root: true, .. } if self.no_root.is_some() => Ok(Outcome::Skipped(self.no_root.clone().unwrap_or_default())),
            How::Suites { packages, root } => self.suites(packages, root),
        }
    }

    fn suites(&self, packages: &[&str], hosts: bool) -> Result<Outcome> {
        let mut line = if self.nextest {
            vec!["nextest", "run", "--no-fail-fast"]
        } else {
            vec!["test", "--no-fail-fast"]
        };
        if self.nextest {
            // A rung without a test yet is not a mistake.
            line.extend(["--no-tests", "pass"]);
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
            .env(report::FILE, &self.notes)
            .env("PATH", packages::path());
        let (status, said) = cargo::watch(cargo)?;
        Ok(Outcome::Ran {
            success: status.success(),
            counts: Counts::read(&said),
        })
    }
}

fn check(checks: &[&[&str]]) -> Result<Outcome> {
    let mut counts = Counts::default();
    for line in checks {
        let tool = line.first().copied().context("a check has a command")?;
        if !cargo::has(tool) {
            return Ok(Outcome::Skipped(format!("cargo {tool} is not installed")));
        }
        let (status, _) = cargo::watch(cargo::command(line)?)?;
        if status.success() { counts.passed += 1 } else { counts.failed += 1 }
    }
    Ok(Outcome::Ran {
        success: counts.failed == 0,
        counts,
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
