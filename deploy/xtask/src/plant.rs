//! Plants each deliberate bug in a copy of the tree and runs the tests that must notice; the tree itself is never changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use tests_harness::{interrupt, programs};
use tests_notes::Note;
use tests_tidy::planted::{self, Planted};
use tests_vm::table::NOT_STARTED;

use crate::cargo::{self, plain};
use crate::planted_tree::PlantedTree;
use crate::rungs::spoken;

/// nextest's exit code when the build is fine and a test failed.
const TESTS_FAILED: i32 = 100;

/// Plant deliberate bugs, one at a time, and see which suite notices.
#[derive(Debug, Args)]
pub struct Plant {
    /// Only these (names of files in tests/planted without .toml); all when none is given
    name: Vec<String>,
    /// Fail where the tests of a bug are skipped too
    #[arg(long)]
    nothing_skipped: bool,
}

/// What became of one bug.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Caught(Vec<String>),
    NotCaught,
    /// The tests do not run on this machine, so that nothing is known of the bug.
    Skipped(String),
    /// The description does not fit the tree.
    Broken(String),
    /// The tests fail without the bug too, or do not run with it.
    CannotTell(&'static str),
}

impl Outcome {
    fn passes(&self, nothing_skipped: bool) -> bool {
        match self {
            Self::Caught(_) => true,
            Self::Skipped(_) => !nothing_skipped,
            Self::NotCaught | Self::Broken(_) | Self::CannotTell(_) => false,
        }
    }

    /// As the summary counts it.
    fn word(&self) -> &'static str {
        match self {
            Self::Caught(_) => "caught",
            Self::NotCaught => "not caught",
            Self::Skipped(_) => "skipped",
            Self::Broken(_) => "broken",
            Self::CannotTell(_) => "undecided",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caught(tests) => f.write_str(&tests.join(", ")),
            Self::NotCaught => f.write_str("NOT CAUGHT"),
            Self::Skipped(why) => write!(f, "SKIPPED: {why}"),
            Self::Broken(why) => write!(f, "BROKEN: {why}"),
            Self::CannotTell(why) => write!(f, "CANNOT TELL: {why}"),
        }
    }
}

impl Plant {
    pub fn run(&self) -> Result<ExitCode> {
        ensure!(
            cargo::has("nextest"),
            "cargo-nextest is required (cargo install --locked cargo-nextest)"
        );
        let root = programs::repository().canonicalize()?;
        let all = planted::all(&root)?;
        if let Some(unknown) = self.name.iter().find(|name| !all.iter().any(|bug| &bug.name == *name)) {
            let names: Vec<&str> = all.iter().map(|bug| bug.name.as_str()).collect();
            bail!("no planted bug {unknown} (there are: {})", names.join(", "));
        }
        let mut chosen: Vec<Planted> = all;
        chosen.retain(|bug| self.name.is_empty() || self.name.contains(&bug.name));
        // Neighbours share what is built.
        chosen.sort_by(|one, other| (&one.package, &one.name).cmp(&(&other.package, &other.name)));
        let planted_tree = PlantedTree::create(&root)?;
        if chosen.iter().any(|bug| !bug.cases.is_empty()) {
            planted_tree.take_images()?;
        }
        let (mut outcomes, mut ended) = (Vec::new(), Ok(()));
        for (number, bug) in chosen.iter().enumerate() {
            eprintln!("\n== {}/{} {}: {}", number + 1, chosen.len(), bug.name, bug.bug);
            let start = Instant::now();
            let trial = Trial {
                planted_tree: &planted_tree,
                bug,
            };
            match trial.run() {
                Ok(outcome) => outcomes.push((bug, outcome, spoken(start.elapsed()))),
                Err(error) => {
                    ended = Err(error.context(format!("plant {}", bug.name)));
                    break;
                }
            }
        }
        println!("\n{:<28} {:<20} {:>14}  CAUGHT BY", "PLANTED", "SUITE", "TIME");
        for (bug, outcome, took) in &outcomes {
            println!("{:<28} {:<20} {took:>14}  {outcome}", bug.name, bug.package);
        }
        let outcomes: Vec<Outcome> = outcomes.into_iter().map(|(_, outcome, _)| outcome).collect();
        println!("\n{}", count_outcomes(&outcomes));
        // What is known of the bugs before it is printed all the same.
        ended?;
        let passed = |nothing_skipped| outcomes.iter().all(|outcome: &Outcome| outcome.passes(nothing_skipped));
        if passed(self.nothing_skipped) {
            return Ok(ExitCode::SUCCESS);
        }
        if passed(false) {
            println!("failed, since --nothing-skipped allows no skip");
        }
        Ok(ExitCode::FAILURE)
    }
}

/// How many bugs had each outcome.
fn count_outcomes(outcomes: &[Outcome]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::from([("caught", 0)]);
    for outcome in outcomes {
        *counts.entry(outcome.word()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("of {}: {}", outcomes.len(), counts.join(", "))
}

/// How the tests of a bug have ended.
struct Tried {
    code: Option<i32>,
    failed: Vec<String>,
    /// Whether a case did not run because its machine did not start.
    not_started: bool,
    /// Tests that did not run, or not all of them, and why.
    skipped: BTreeMap<String, String>,
}

impl Tried {
    fn reasons(&self) -> String {
        let reasons: Vec<String> = self.skipped.iter().map(|(test, why)| format!("{test}: {why}")).collect();
        reasons.join("; ")
    }
}

/// Files of the copy, each with its text and the text with the bug.
type Edits = BTreeMap<PathBuf, (String, String)>;

/// One bug in the copy.
struct Trial<'a> {
    planted_tree: &'a PlantedTree,
    bug: &'a Planted,
}

impl Trial<'_> {
    fn run(&self) -> Result<Outcome> {
        let edits = match self.edits() {
            Ok(edits) => edits,
            Err(error) => return Ok(Outcome::Broken(format!("{error:#}"))),
        };
        let before = self.test()?;
        if before.code != Some(0) {
            return Ok(Outcome::CannotTell("its tests do not pass without it"));
        }
        // No machine was started. A test that left a note may have skipped only a part of itself, and catch the bug with the others.
        if !self.bug.cases.is_empty() && !before.skipped.is_empty() {
            return Ok(Outcome::Skipped(before.reasons()));
        }
        let planted = edits.iter().try_for_each(|(path, (_, with))| write(path, with));
        let tried = planted.and_then(|()| self.test());
        // Whatever happened, the copy is as before.
        let restored: Vec<Result<()>> = edits.iter().map(|(path, (without, _))| write(path, without)).collect();
        restored.into_iter().collect::<Result<()>>()?;
        Ok(outcome(tried?))
    }

    /// What the bug is in the copy; an error where a text to be found is not there exactly once, with the file's name.
    fn edits(&self) -> Result<Edits> {
        let mut edits = Edits::new();
        for change in &self.bug.changes {
            let (_, with) = match edits.entry(self.planted_tree.tree.join(&change.file)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let text = fs::read_to_string(new.key()).with_context(|| format!("read {}", change.file))?;
                    new.insert((text.clone(), text))
                }
            };
            *with = change.plant(with)?;
        }
        Ok(edits)
    }

    /// Runs the bug's tests in the copy.
    fn test(&self) -> Result<Tried> {
        interrupt::check()?;
        if !self.bug.cases.is_empty() {
            return self.run_cases();
        }
        let filter: Vec<String> = self.bug.tests.iter().map(|test| format!("test(/(^|::){test}$/)")).collect();
        let filter = filter.join(" | ");
        let notes = self.planted_tree.notes();
        fs::remove_file(&notes).ok();
        let mut cargo = self
            .planted_tree
            .cargo(&["nextest", "run", "--no-fail-fast", "--package", &self.bug.package, "-E", &filter])?;
        cargo.env(tests_notes::FILE, &notes);
        let (status, output) = cargo::watch(cargo)?;
        let mut failed: Vec<String> = output.lines().filter_map(|line| failed_test(&plain(line))).collect();
        failed.sort();
        failed.dedup();
        let notes = tests_notes::notes(&notes).with_context(|| format!("read {}", notes.display()))?;
        Ok(Tried {
            code: status.code(),
            failed,
            not_started: false,
            skipped: notes.into_iter().filter_map(skipped_test).collect(),
        })
    }

    /// The same of cases on machines: the copy's own xtask runs them, with packages of the copy.
    fn run_cases(&self) -> Result<Tried> {
        let cases: Vec<&str> = self.bug.cases.iter().map(String::as_str).collect();
        let line = [
            "run",
            "--quiet",
            "--package",
            "deploy-xtask",
            "--",
            "test",
            "--rung",
            "vm",
            "--quick",
            "--case",
        ];
        let cargo = self.planted_tree.cargo(&[&line[..], &[&cases.join(",")]].concat())?;
        let (status, output) = cargo::watch(cargo)?;
        let mut failed: Vec<String> = output.lines().filter_map(|line| failed_case(&plain(line))).collect();
        failed.dedup();
        let code = if status.success() || failed.is_empty() {
            status.code()
        } else {
            Some(TESTS_FAILED)
        };
        let skipped = output.lines().find_map(|line| skipped_rung(&plain(line)));
        Ok(Tried {
            code,
            failed,
            not_started: output.lines().any(|line| is_not_started(&plain(line))),
            skipped: skipped.map(|why| ("the rung vm".to_owned(), why)).into_iter().collect(),
        })
    }
}

/// What the run with the bug comes to.
fn outcome(tried: Tried) -> Outcome {
    match tried.code {
        Some(TESTS_FAILED) if tried.failed.is_empty() => Outcome::CannotTell("a test has failed, and the output does not name it"),
        Some(TESTS_FAILED) => Outcome::Caught(tried.failed),
        // A test that does not run catches nothing, and is no proof that nothing can be caught.
        Some(0) if !tried.skipped.is_empty() => Outcome::Skipped(tried.reasons()),
        Some(0) => Outcome::NotCaught,
        _ if tried.not_started => Outcome::CannotTell("with it, a machine did not start"),
        _ => Outcome::CannotTell("with it, the suite does not build"),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn skipped_test(note: Note) -> Option<(String, String)> {
    match note {
        Note::Skipped { test, reason } => Some((test, reason)),
        Note::Unavailable { test, capability, reason } => Some((test, format!("{capability}: {reason}"))),
        Note::Undone { .. } => None,
    }
}

/// The reason in the line of the summary that says that no machine was started.
fn skipped_rung(line: &str) -> Option<String> {
    line.trim().strip_prefix("vm: the whole rung: ").map(str::to_owned)
}

/// The case of a row of the rung's table that is said to have failed, on a machine that did start.
fn failed_case(line: &str) -> Option<String> {
    let (case, what) = failed_row(line)?;
    (!what.starts_with(NOT_STARTED)).then(|| case.to_owned())
}

fn is_not_started(line: &str) -> bool {
    failed_row(line).is_some_and(|(_, what)| what.starts_with(NOT_STARTED))
}

/// The case of a row that is said to have failed, and the row from what failed on.
fn failed_row(line: &str) -> Option<(&str, &str)> {
    let (case, what) = line.trim_end().strip_suffix("  FAILED")?.trim_start().split_once(' ')?;
    Some((case, what.trim_start()))
}

/// The function in a line such as `FAIL [   0.01s] (1/2) agent-levers suite::looks::a_look`.
fn failed_test(line: &str) -> Option<String> {
    let line = line.trim();
    let result = ["FAIL [", "FAIL + LEAK [", "TIMEOUT [", "SIGABRT [", "SIGSEGV ["];
    result.iter().find(|opening| line.starts_with(**opening))?;
    Some(line.rsplit([' ', ':']).next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn failed_tests_are_read_from_what_nextest_prints() {
        let line = "        FAIL [   0.012s] (1/2) agent-levers suite::looks::a_look_that_fails";
        assert_eq!(failed_test(line).as_deref(), Some("a_look_that_fails"));
        // A process that the test has left holds its output.
        let leaky = " FAIL + LEAK [  15.384s] (1/1) agent-daemon::host privileges::a_guardian";
        assert_eq!(failed_test(leaky).as_deref(), Some("a_guardian"));
        let row = "purge      files                                  4.0 s     3.0 s  FAILED";
        assert_eq!(failed_case(row).as_deref(), Some("purge"));
        assert_eq!(
            failed_case("purge      files                                  4.0 s     5.0 s"),
            None
        );
        let not_started = "purge      not started                          300.0 s         -  FAILED";
        assert_eq!(failed_case(not_started), None);
        assert!(is_not_started(not_started) && !is_not_started(row));
        assert_eq!(failed_test("        PASS [   0.012s] (1/2) agent-levers suite::looks::other"), None);
    }

    fn bug(find: &str) -> Planted {
        let change = |find: &str, replace: &str| planted::Change {
            file: "a.rs".into(),
            find: find.into(),
            replace: replace.into(),
        };
        Planted {
            name: "bug".into(),
            bug: "it is wrong".into(),
            package: "a".into(),
            tests: BTreeSet::from(["looks".to_owned()]),
            cases: BTreeSet::new(),
            changes: vec![change(find, "two"), change("three", "3")],
        }
    }

    #[test]
    fn a_text_that_is_not_found_breaks_the_bug_and_names_the_file() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let planted_tree = PlantedTree::of(folder.path(), folder.path());
        let file = planted_tree.tree.join("a.rs");
        fs::create_dir(&planted_tree.tree)?;
        fs::write(&file, "one three")?;
        let (one, four) = (bug("one"), bug("four"));
        let trial = |bug| Trial {
            planted_tree: &planted_tree,
            bug,
        };
        let edits = trial(&one).edits()?;
        assert_eq!(
            edits.into_values().collect::<Vec<_>>(),
            [("one three".to_owned(), "two 3".to_owned())]
        );
        // No test is run for it.
        let broken = trial(&four).run()?;
        assert!(
            matches!(&broken, Outcome::Broken(why) if why.contains("a.rs") && why.contains("four")),
            "{broken}"
        );
        fs::remove_file(&file)?;
        assert!(matches!(trial(&one).run()?, Outcome::Broken(why) if why.contains("read a.rs")));
        Ok(())
    }

    #[test]
    fn only_what_is_caught_passes_and_a_skip_where_it_is_allowed() {
        let tried = |code: i32, failed: &[&str], skipped: &[&str]| {
            outcome(Tried {
                code: Some(code),
                failed: failed.iter().map(|test| (*test).to_owned()).collect(),
                not_started: false,
                skipped: skipped.iter().map(|test| ((*test).to_owned(), "no root".to_owned())).collect(),
            })
        };
        let not_started = outcome(Tried {
            code: Some(1),
            failed: Vec::new(),
            not_started: true,
            skipped: BTreeMap::new(),
        });
        assert_eq!(not_started, Outcome::CannotTell("with it, a machine did not start"));
        let skipped = tried(0, &[], &["a"]);
        for (outcome, expected) in [
            (tried(TESTS_FAILED, &["a"], &[]), [true, true]),
            (tried(TESTS_FAILED, &["a"], &["b"]), [true, true]),
            (tried(TESTS_FAILED, &[], &[]), [false, false]),
            (tried(0, &[], &[]), [false, false]),
            (tried(101, &[], &[]), [false, false]),
            (skipped, [true, false]),
            (Outcome::Broken("a.rs".into()), [false, false]),
        ] {
            assert_eq!([false, true].map(|refused| outcome.passes(refused)), expected, "{outcome}");
        }
        let all = [tried(TESTS_FAILED, &["a"], &[]), tried(0, &[], &["a"]), Outcome::NotCaught];
        assert_eq!(count_outcomes(&all), "of 3: 1 caught, 1 not caught, 1 skipped");
        assert_eq!(
            skipped_rung("  vm: the whole rung: root is required").as_deref(),
            Some("root is required")
        );
        assert_eq!(skipped_rung("  browser: the whole rung: no chromium"), None);
    }
}
