//! The section of docs/safety.md with the times that the rung vm has measured; a test refuses what it would not have written so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests_harness::programs;
use tests_vm::Suite;
use tests_vm::machine::PROCESSORS;
use tests_vm::table::Table;

use crate::measure;

const PAGE: &str = "docs/safety.md";
const BEGIN: &str = "<!-- measured times, written by `cargo xtask test --long --record` -->\n";
const END: &str = "<!-- end of the measured times -->\n";
const COLUMNS: &str = "| case | measured | Debian 11 | Debian 12 | Debian 13 | limit |\n|---|---|---|---|---|---|\n";

/// Figures with a limit, of all suites.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Measured(Vec<Line>);

/// One promise.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    case: String,
    what: String,
    limit: Duration,
    took: BTreeMap<Suite, Duration>,
}

impl Measured {
    /// Adds what was measured on one suite.
    pub fn add(&mut self, suite: Suite, table: &Table) {
        for row in table.rows() {
            let Some(limit) = row.limit else { continue };
            let known = self.0.iter_mut().find(|line| line.case == row.case && line.what == row.what);
            if let Some(line) = known {
                line.took.insert(suite, row.took);
            } else {
                self.0.push(Line {
                    case: row.case.to_owned(),
                    what: row.what.clone(),
                    limit,
                    took: BTreeMap::from([(suite, row.took)]),
                });
            }
        }
    }
}

/// Writes the section.
pub fn record(measured: &Measured) -> Result<()> {
    let path = programs::repository().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("read {PAGE}"))?;
    let section = section(&on(&date()?, &measure::machine()), measured);
    fs::write(&path, with_section(&page, &section)?).with_context(|| format!("write {PAGE}"))
}

/// Where and when.
fn on(date: &str, machine: &str) -> String {
    format!("Measured on {date}, each host a virtual machine with two processors that {PROCESSORS}, on {machine}.\n")
}

fn section(on: &str, measured: &Measured) -> String {
    let mut text = format!("\n{on}\n{COLUMNS}");
    for line in &measured.0 {
        let cell = |suite| line.took.get(&suite).map_or_else(String::new, |took| seconds(*took));
        let [first, second, third] = Suite::ALL.map(cell);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {first} | {second} | {third} | {} |",
            line.case,
            line.what,
            seconds(line.limit)
        );
    }
    text + "\n"
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The page with another section between its marks.
fn with_section(page: &str, section: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{PAGE} has no {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} has no {END}"))?;
    Ok(format!("{before}{BEGIN}{section}{END}{after}"))
}

fn date() -> Result<String> {
    let output = Command::new("date").args(["--utc", "+%Y-%m-%d"]).output().context("start date")?;
    ensure!(output.status.success(), "date: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use tests_vm::table::Row;

    use super::*;

    fn row(what: &str, took_ms: u64, limit: Option<u64>) -> Row {
        Row {
            case: "kill",
            what: what.to_owned(),
            took: Duration::from_millis(took_ms),
            limit: limit.map(Duration::from_secs),
            failed: None,
        }
    }

    fn table(rows: &[Row]) -> Table {
        let mut table = Table::default();
        rows.iter().cloned().for_each(|row| table.add(row));
        table
    }

    /// What a section says, if it is one of ours.
    fn parse(section: &str) -> Option<(String, Measured)> {
        let (on, rows) = section.strip_prefix('\n')?.split_once(&format!("\n{COLUMNS}"))?;
        let time = |cell: &str| Duration::try_from_secs_f64(cell.strip_suffix(" s")?.parse().ok()?).ok();
        let line = |row: &str| {
            let cells: Vec<&str> = row.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
            let [case, what, took @ .., limit] = cells.as_slice() else {
                return None;
            };
            let took = Suite::ALL.into_iter().zip(took).filter(|(_, cell)| !cell.is_empty());
            Some(Line {
                case: (*case).to_owned(),
                what: (*what).to_owned(),
                limit: time(limit)?,
                took: took.map(|(suite, cell)| Some((suite, time(cell)?))).collect::<Option<_>>()?,
            })
        };
        let lines: Option<Vec<Line>> = rows.trim_end().lines().map(line).collect();
        Some((on.to_owned(), Measured(lines?)))
    }

    #[test]
    fn suites_share_a_line_and_only_what_has_a_limit_is_in_it() -> Result<()> {
        let mut measured = Measured::default();
        measured.add(
            Suite::Bookworm,
            &table(&[row("clean", 3200, Some(10)), row("the whole case", 9000, None)]),
        );
        measured.add(Suite::Bullseye, &table(&[row("clean", 2000, Some(10)), row("other", 100, Some(5))]));
        let section = section("here\n", &measured);
        assert_eq!(
            section,
            format!("\nhere\n\n{COLUMNS}| kill | clean | 2.0 s | 3.2 s |  | 10.0 s |\n| kill | other | 0.1 s |  |  | 5.0 s |\n\n")
        );
        assert_eq!(parse(&section), Some(("here\n".to_owned(), measured)));
        let page = with_section(&format!("a\n{BEGIN}old\n{END}b\n"), &section)?;
        assert_eq!(page, format!("a\n{BEGIN}{section}{END}b\n"));
        assert!(with_section("no marks", &section).is_err());
        Ok(())
    }

    /// Times that stand in the page were measured, and by hand nothing is put between them.
    #[test]
    fn the_page_is_as_it_was_written() -> Result<()> {
        let page = fs::read_to_string(programs::repository().join(PAGE))?;
        let committed = page.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
        let (committed, _) = committed.context("the page has the section")?;
        let (on, measured) = parse(committed).with_context(|| format!("{PAGE}: not as --record writes it: {committed}"))?;
        assert_eq!(section(&on, &measured), committed);
        for line in &measured.0 {
            assert!(line.took.values().all(|took| *took <= line.limit), "{line:?}");
        }
        Ok(())
    }
}
