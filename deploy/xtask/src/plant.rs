//! Plants each deliberate bug in a copy of the tree and runs the tests that must notice; the tree itself is never changed.

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use tests_harness::{interrupt, programs};
use tests_tidy::planted::{self, Planted};

use crate::cargo::{self, plain};
use crate::garden::Garden;
use crate::rungs::spoken;

/// nextest's exit code when the build is fine and a test failed.
const TESTS_FAILED: i32 = 100;

/// Plant deliberate bugs, one at a time, and see which suite notices.
#[derive(Debug, Args)]
pub struct Plant {
    /// Only these (names of files in tests/planted without .toml); all when none is given
    name: Vec<String>,
}

/// What became of one bug.
enum Outcome {
    Caught(Vec<String>),
    NotCaught,
    /// The tests do not pass without the bug, so that their failure says nothing.
    Broken(&'static str),
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
        let garden = Garden::lay_out(&root)?;
        if chosen.iter().any(|bug| !bug.cases.is_empty()) {
            garden.take_images()?;
        }
        let mut outcomes = Vec::new();
        for (number, bug) in chosen.iter().enumerate() {
            eprintln!("\n== {}/{} {}: {}", number + 1, chosen.len(), bug.name, bug.bug);
            let start = Instant::now();
            let trial = Trial { garden: &garden, bug };
            outcomes.push((bug, trial.run()?, spoken(start.elapsed())));
        }
        println!("\n{:<28} {:<20} {:>14}  CAUGHT BY", "PLANTED", "SUITE", "TIME");
        for (bug, outcome, took) in &outcomes {
            let by = match outcome {
                Outcome::Caught(tests) => tests.join(", "),
                Outcome::NotCaught => "NOT CAUGHT".to_owned(),
                Outcome::Broken(why) => format!("CANNOT TELL: {why}"),
            };
            println!("{:<28} {:<20} {took:>14}  {by}", bug.name, bug.package);
        }
        let caught = outcomes
            .iter()
            .filter(|(_, outcome, _)| matches!(outcome, Outcome::Caught(_)))
            .count();
        println!("\n{caught} of {} caught", outcomes.len());
        Ok(if caught == outcomes.len() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// One bug in the copy.
struct Trial<'a> {
    garden: &'a Garden,
    bug: &'a Planted,
}

impl Trial<'_> {
    fn run(&self) -> Result<Outcome> {
        let (before, _) = self.test()?;
        if before != Some(0) {
            return Ok(Outcome::Broken("its tests do not pass without it"));
        }
        let mut originals = Vec::new();
        let planted = self.bug.changes.iter().try_for_each(|change| {
            let path = self.garden.tree.join(&change.file);
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let changed = change.plant(&text)?;
            originals.push((path.clone(), text));
            fs::write(&path, changed).with_context(|| format!("write {}", path.display()))
        });
        let with = planted.and_then(|()| self.test());
        // Whatever happened, the copy is as before; of several changes to one file, the first original comes last.
        for (path, text) in originals.iter().rev() {
            fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        }
        let (code, failed) = with?;
        Ok(match code {
            Some(TESTS_FAILED) => Outcome::Caught(failed),
            Some(0) => Outcome::NotCaught,
            _ => Outcome::Broken("with it, the suite does not build"),
        })
    }

    /// The exit code of the bug's tests in the copy, and which of them failed.
    fn test(&self) -> Result<(Option<i32>, Vec<String>)> {
        interrupt::check()?;
        if !self.bug.cases.is_empty() {
            return self.run_cases();
        }
        let filter: Vec<String> = self.bug.tests.iter().map(|test| format!("test(/(^|::){test}$/)")).collect();
        let filter = filter.join(" | ");
        let cargo = self
            .garden
            .cargo(&["nextest", "run", "--no-fail-fast", "--package", &self.bug.package, "-E", &filter])?;
        let (status, output) = cargo::watch(cargo)?;
        let mut failed: Vec<String> = output.lines().filter_map(|line| failed_test(&plain(line))).collect();
        failed.sort();
        failed.dedup();
        Ok((status.code(), failed))
    }

    /// The same of cases on machines: the copy's own xtask runs them, with packages of the copy.
    fn run_cases(&self) -> Result<(Option<i32>, Vec<String>)> {
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
        let cargo = self.garden.cargo(&[&line[..], &[&cases.join(",")]].concat())?;
        let (status, output) = cargo::watch(cargo)?;
        let mut failed: Vec<String> = output.lines().filter_map(|line| failed_case(&plain(line))).collect();
        failed.dedup();
        let code = if status.success() || failed.is_empty() {
            status.code()
        } else {
            Some(TESTS_FAILED)
        };
        Ok((code, failed))
    }
}

/// The case of a row of the rung's table that is said to have failed.
fn failed_case(line: &str) -> Option<String> {
    let row = line.trim_end().strip_suffix("  FAILED")?;
    row.split_whitespace().next().map(str::to_owned)
}

/// The function in a line such as `FAIL [   0.01s] (1/2) agent-levers suite::looks::a_look`.
fn failed_test(line: &str) -> Option<String> {
    let line = line.trim();
    let result = ["FAIL [", "TIMEOUT [", "SIGABRT [", "SIGSEGV ["];
    result.iter().find(|opening| line.starts_with(**opening))?;
    Some(line.rsplit([' ', ':']).next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_are_read_from_what_nextest_prints() {
        let line = "        FAIL [   0.012s] (1/2) agent-levers suite::looks::a_look_that_fails";
        assert_eq!(failed_test(line).as_deref(), Some("a_look_that_fails"));
        let row = "purge      files                                  4.0 s     3.0 s  FAILED";
        assert_eq!(failed_case(row).as_deref(), Some("purge"));
        assert_eq!(
            failed_case("purge      files                                  4.0 s     5.0 s"),
            None
        );
        assert_eq!(failed_test("        PASS [   0.012s] (1/2) agent-levers suite::looks::other"), None);
    }
}
