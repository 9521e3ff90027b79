//! What was measured, each figure with its limit, as a table.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// The row of a case that did not run because its machine did not start.
pub const NOT_STARTED: &str = "not started";

/// One figure of a case.
#[derive(Debug, Clone)]
pub struct Row {
    pub case: &'static str,
    pub what: String,
    pub took: Duration,
    pub limit: Option<Duration>,
    /// Why it counts as failed, where it does.
    pub failed: Option<String>,
}

impl Row {
    pub fn passed(&self) -> bool {
        self.failed.is_none() && self.limit.is_none_or(|limit| self.took <= limit)
    }
}

#[derive(Debug, Default)]
pub struct Table(Vec<Row>);

impl Table {
    pub fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.0.iter()
    }

    pub fn of(&self, case: &str) -> impl Iterator<Item = &Row> {
        self.0.iter().filter(move |row| row.case == case)
    }

    /// How many cases have passed, and how many have not.
    pub fn cases(&self) -> (u64, u64) {
        let names: BTreeSet<&str> = self.0.iter().map(|row| row.case).collect();
        let failed = names.iter().filter(|case| !self.of(case).all(Row::passed)).count();
        ((names.len() - failed) as u64, failed as u64)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.case.len()).max().unwrap_or_default().max("CASE".len());
        writeln!(f, "{:<width$} {:<58} {:>9} {:>9}", "CASE", "WHAT", "TOOK", "LIMIT")?;
        for row in &self.0 {
            let limit = row.limit.map_or_else(|| "-".to_owned(), seconds);
            let verdict = if row.passed() { "" } else { "  FAILED" };
            let took = seconds(row.took);
            writeln!(f, "{:<width$} {:<58} {took:>9} {limit:>9}{verdict}", row.case, row.what)?;
            if let Some(why) = &row.failed {
                writeln!(f, "{:<width$} {why}", "")?;
            }
        }
        Ok(())
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(case: &'static str, took: u64, limit: Option<u64>, failed: Option<&str>) -> Row {
        Row {
            case,
            what: "clean".into(),
            took: Duration::from_secs(took),
            limit: limit.map(Duration::from_secs),
            failed: failed.map(str::to_owned),
        }
    }

    #[test]
    fn what_took_longer_than_its_limit_has_failed() {
        let mut table = Table::default();
        for row in [
            row("install", 3, Some(3), None),
            row("install", 4, None, None),
            row("kill", 1, Some(3), None),
            row("kill", 4, Some(3), None),
            row("purge", 0, None, Some("no")),
        ] {
            table.add(row);
        }
        assert_eq!(table.cases(), (1, 2));
        let shown = table.to_string();
        assert_eq!(shown.matches("FAILED").count(), 2);
        assert!(shown.contains("4.0 s     3.0 s  FAILED"), "{shown}");
    }
}
