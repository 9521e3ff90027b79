//! What a climb of the ladder comes to: counts and times by rung, reasons of skips, and the table of undo times; pure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tests_harness::report::Note;

use crate::cargo::plain;
use crate::rungs::spoken;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
}

pub enum Outcome {
    Ran { success: bool, counts: Counts },
    Skipped(String),
}

impl Counts {
    /// From what cargo's test runners said: nextest's summary, or libtest's result per program.
    pub fn read(said: &str) -> Self {
        let lines: Vec<String> = said.lines().map(|line| plain(line).trim().to_owned()).collect();
        let of = |opening: &str| {
            lines
                .iter()
                .filter(|line| line.starts_with(opening))
                .map(String::as_str)
                .collect::<Vec<_>>()
        };
        // Nextest repeats what libtest said of each test that failed: its own summary is the one that counts.
        let summaries = of("Summary [");
        let results = if summaries.is_empty() { of("test result:") } else { summaries };
        let sum = |word: &str| results.iter().map(|line| before(line, word)).sum::<u64>();
        Self {
            passed: sum("passed"),
            failed: sum("failed") + sum("timed out") + sum("exec failed"),
        }
    }
}

/// The number in front of a word.
fn before(line: &str, word: &str) -> u64 {
    let Some((left, _)) = line.split_once(&format!(" {word}")) else {
        return 0;
    };
    left.rsplit(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[derive(Default)]
pub struct Summary {
    rungs: Vec<Row>,
    skips: BTreeMap<String, u64>,
    /// How often, the slowest in milliseconds and its limit, by fault and what ended it.
    undone: BTreeMap<(String, String), (u64, u64, u64)>,
}

struct Row {
    name: &'static str,
    success: bool,
    passed: u64,
    failed: u64,
    skipped: u64,
    took: Duration,
}

impl Summary {
    pub fn add(&mut self, name: &'static str, outcome: Outcome, notes: &[Note], took: Duration) {
        let mut skipped = 0;
        for note in notes {
            match note {
                Note::Skipped { reason, .. } => {
                    skipped += 1;
                    *self.skips.entry(format!("{name}: {reason}")).or_default() += 1;
                }
                Note::Undone {
                    fault,
                    after,
                    took_ms,
                    limit_ms,
                } => {
                    let cell = self.undone.entry((fault.clone(), after.clone())).or_insert((0, 0, *limit_ms));
                    *cell = (cell.0 + 1, cell.1.max(*took_ms), cell.2.min(*limit_ms));
                }
            }
        }
        let row = match outcome {
            Outcome::Skipped(reason) => {
                *self.skips.entry(format!("{name}: {reason}")).or_default() += 1;
                Row {
                    name,
                    success: true,
                    passed: 0,
                    failed: 0,
                    skipped: 1,
                    took,
                }
            }
            Outcome::Ran { success, counts } => {
                // A run that failed without a failed test did not build.
                let failed = if success { counts.failed } else { counts.failed.max(1) };
                Row {
                    name,
                    success,
                    passed: counts.passed.saturating_sub(skipped),
                    failed,
                    skipped,
                    took,
                }
            }
        };
        self.rungs.push(row);
    }

    pub fn passed(&self) -> bool {
        self.rungs.iter().all(|row| row.success)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.undone.is_empty() {
            writeln!(
                f,
                "\n{:<20} {:<28} {:>6} {:>12} {:>10}",
                "UNDONE", "AFTER", "TIMES", "SLOWEST", "LIMIT"
            )?;
        }
        for ((fault, after), (times, slowest, limit)) in &self.undone {
            writeln!(
                f,
                "{fault:<20} {after:<28} {times:>6} {:>12} {:>10}",
                format!("{slowest} ms"),
                format!("{limit} ms")
            )?;
        }
        if !self.skips.is_empty() {
            writeln!(f, "\nSKIPPED")?;
        }
        for (reason, times) in &self.skips {
            writeln!(f, "{times:>4} x {reason}")?;
        }
        writeln!(
            f,
            "\n{:<10} {:>7} {:>7} {:>8} {:>14}",
            "RUNG", "PASSED", "FAILED", "SKIPPED", "TIME"
        )?;
        for row in &self.rungs {
            writeln!(
                f,
                "{:<10} {:>7} {:>7} {:>8} {:>14}",
                row.name,
                row.passed,
                row.failed,
                row.skipped,
                spoken(row.took)
            )?;
        }
        let sum = |of: fn(&Row) -> u64| self.rungs.iter().map(of).sum::<u64>();
        write!(
            f,
            "\n{} passed, {} failed, {} skipped",
            sum(|row| row.passed),
            sum(|row| row.failed),
            sum(|row| row.skipped)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runners_are_understood() {
        let nextest = "test result: FAILED. 0 passed; 1 failed; 0 ignored\n\u{1b}[32m     Summary\u{1b}[0m [   2.4s] \u{1b}[1m15\u{1b}[0m tests run: \u{1b}[1m13\u{1b}[0m passed (1 slow), 1 failed, 1 timed out, 4 skipped\n";
        assert_eq!(Counts::read(nextest), Counts { passed: 13, failed: 2 });
        let libtest = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured\nx\ntest result: FAILED. 2 passed; 3 failed; 0 ignored\n";
        assert_eq!(Counts::read(libtest), Counts { passed: 7, failed: 3 });
    }

    #[test]
    fn skips_are_told_and_do_not_count_as_passed() {
        let mut summary = Summary::default();
        let notes = [
            Note::Skipped {
                test: "a".into(),
                reason: "no root".into(),
            },
            Note::Undone {
                fault: "cpu.burn".into(),
                after: "stop".into(),
                took_ms: 40,
                limit_ms: 2000,
            },
            Note::Undone {
                fault: "cpu.burn".into(),
                after: "stop".into(),
                took_ms: 70,
                limit_ms: 2000,
            },
        ];
        let ran = Outcome::Ran {
            success: true,
            counts: Counts { passed: 3, failed: 0 },
        };
        summary.add("contest", ran, &notes, Duration::from_secs(61));
        summary.add("bans", Outcome::Skipped("cargo deny is not installed".into()), &[], Duration::ZERO);
        let text = summary.to_string();
        assert!(text.ends_with("\n2 passed, 0 failed, 2 skipped"), "{text}");
        assert!(
            text.contains("   1 x contest: no root") && text.contains("70 ms") && text.contains("1 min 01 s"),
            "{text}"
        );
        assert!(summary.passed());
    }

    #[test]
    fn a_suite_that_does_not_build_is_a_failure() {
        let mut summary = Summary::default();
        summary.add(
            "pure",
            Outcome::Ran {
                success: false,
                counts: Counts::default(),
            },
            &[],
            Duration::ZERO,
        );
        assert!(!summary.passed() && summary.to_string().ends_with("0 passed, 1 failed, 0 skipped"));
    }
}
