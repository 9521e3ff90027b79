//! What a climb of the ladder comes to: counts and times by rung, every skip by test, and the table of undo times; pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tests_notes::Note;

use crate::cargo::plain;
use crate::rungs::spoken;
use crate::unavailable::Verdict;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
}

pub enum Outcome {
    /// What ran, and why each part that is not among the counts did not.
    Ran {
        success: bool,
        counts: Counts,
        skipped: Vec<String>,
    },
    Skipped(String),
}

impl Outcome {
    /// All of it ran.
    pub fn ran(success: bool, counts: Counts) -> Self {
        Self::Ran {
            success,
            counts,
            skipped: Vec::new(),
        }
    }

    /// Whether it reports a test, or why there is none. A success that reports nothing may have run nothing.
    fn says_anything(&self) -> bool {
        match self {
            Self::Ran { success, counts, .. } => !success || *counts != Counts::default(),
            Self::Skipped(_) => true,
        }
    }
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
    /// `rung test: reason`, one line for each test and reason.
    skips: Vec<String>,
    /// Tests that this kernel cannot run, by the checked-in list.
    excused: Vec<String>,
    /// What was not run because it was not asked for.
    left_out: Vec<String>,
    /// Rungs that succeeded without a test, which count as failed.
    silent: Vec<String>,
    /// How often, the slowest in milliseconds and its limit, by fault and what ended it.
    undone: BTreeMap<(String, String), (u64, u64, u64)>,
}

struct Row {
    name: &'static str,
    success: bool,
    passed: u64,
    failed: u64,
    skipped: u64,
    excused: u64,
    took: Duration,
}

impl Summary {
    pub fn add(&mut self, name: &'static str, outcome: Outcome, verdict: Verdict, took: Duration) {
        let tests = |lines: &mut dyn Iterator<Item = String>| u64::try_from(lines.collect::<BTreeSet<_>>().len()).unwrap_or(u64::MAX);
        let skipped = tests(&mut verdict.skips.iter().map(|(test, _)| test.clone()));
        let excused = tests(&mut verdict.excused.iter().cloned());
        self.skips
            .extend(verdict.skips.iter().map(|(test, reason)| format!("{name}: {test}: {reason}")));
        self.excused.extend(verdict.excused.iter().map(|line| format!("{name}: {line}")));
        let silent = !outcome.says_anything();
        if silent {
            self.silent.push(format!("{name}: the rung succeeded and reported no test"));
        }
        let (success, counts, parts) = match outcome {
            Outcome::Skipped(reason) => (true, Counts::default(), vec![format!("the whole rung: {reason}")]),
            Outcome::Ran { success, counts, skipped } => (success && !silent, counts, skipped),
        };
        self.skips.extend(parts.iter().map(|reason| format!("{name}: {reason}")));
        self.rungs.push(Row {
            name,
            success,
            passed: counts.passed.saturating_sub(skipped + excused),
            // A run that failed without a failed test did not build.
            failed: if success { counts.failed } else { counts.failed.max(1) },
            skipped: skipped + parts.len() as u64,
            excused,
            took,
        });
    }

    pub fn add_undone(&mut self, notes: &[Note]) {
        for note in notes {
            if let Note::Undone {
                fault,
                after,
                took_ms,
                limit_ms,
            } = note
            {
                let cell = self.undone.entry((fault.clone(), after.clone())).or_insert((0, 0, *limit_ms));
                *cell = (cell.0 + 1, cell.1.max(*took_ms), cell.2.min(*limit_ms));
            }
        }
    }

    /// Says that something was not asked for; it is no skip.
    pub fn leave_out(&mut self, line: String) {
        self.left_out.push(line);
    }

    /// Whether no rung has ended yet.
    pub fn is_empty(&self) -> bool {
        self.rungs.is_empty()
    }

    /// Whether nothing failed and, if skips are refused, nothing was skipped.
    pub fn passed(&self, nothing_skipped: bool) -> bool {
        self.rungs.iter().all(|row| row.success) && !(nothing_skipped && self.sum(|row| row.skipped) > 0)
    }

    fn sum(&self, of: fn(&Row) -> u64) -> u64 {
        self.rungs.iter().map(of).sum()
    }

    fn write_undone(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_undone(f)?;
        let lists = [
            ("LEFT OUT (not asked for)", &self.left_out),
            ("UNAVAILABLE ON THIS KERNEL (tests/unavailable.toml)", &self.excused),
            ("SKIPPED", &self.skips),
            ("FAILED WITHOUT A TEST", &self.silent),
        ];
        for (title, lines) in lists.iter().filter(|(_, lines)| !lines.is_empty()) {
            writeln!(f, "\n{title}")?;
            for line in *lines {
                writeln!(f, "  {line}")?;
            }
        }
        writeln!(
            f,
            "\n{:<10} {:>7} {:>7} {:>8} {:>12} {:>14}",
            "RUNG", "PASSED", "FAILED", "SKIPPED", "UNAVAILABLE", "TIME"
        )?;
        for row in &self.rungs {
            writeln!(
                f,
                "{:<10} {:>7} {:>7} {:>8} {:>12} {:>14}",
                row.name,
                row.passed,
                row.failed,
                row.skipped,
                row.excused,
                spoken(row.took)
            )?;
        }
        write!(
            f,
            "\n{} passed, {} failed, {} skipped, {} unavailable on this kernel",
            self.sum(|row| row.passed),
            self.sum(|row| row.failed),
            self.sum(|row| row.skipped),
            self.sum(|row| row.excused)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(passed: u64) -> Outcome {
        Outcome::ran(true, Counts { passed, failed: 0 })
    }

    fn undone(took_ms: u64) -> Note {
        Note::Undone {
            fault: "cpu.burn".into(),
            after: "stop".into(),
            took_ms,
            limit_ms: 2000,
        }
    }

    #[test]
    fn both_runners_are_understood() {
        let nextest = "test result: FAILED. 0 passed; 1 failed; 0 ignored\n\u{1b}[32m     Summary\u{1b}[0m [   2.4s] \u{1b}[1m15\u{1b}[0m tests run: \u{1b}[1m13\u{1b}[0m passed (1 slow), 1 failed, 1 timed out, 4 skipped\n";
        assert_eq!(Counts::read(nextest), Counts { passed: 13, failed: 2 });
        let libtest = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured\nx\ntest result: FAILED. 2 passed; 3 failed; 0 ignored\n";
        assert_eq!(Counts::read(libtest), Counts { passed: 7, failed: 3 });
    }

    #[test]
    fn every_skip_is_a_line_and_counts_as_no_pass() {
        let mut summary = Summary::default();
        let skip = |test: &str, reason: &str| (test.to_owned(), reason.to_owned());
        let verdict = Verdict {
            skips: vec![skip("p a", "no root"), skip("p a", "no nft"), skip("p b", "no root")],
            excused: vec!["p c: sch_netem: no module (runs in vm)".into()],
        };
        summary.add("contest", ran(7), verdict, Duration::from_secs(61));
        summary.add_undone(&[undone(40), undone(70)]);
        summary.add(
            "bans",
            Outcome::Skipped("cargo-deny is missing".into()),
            Verdict::default(),
            Duration::ZERO,
        );
        summary.leave_out("browser: --rung does not name it".into());
        let text = summary.to_string();
        assert!(
            text.ends_with("\n4 passed, 0 failed, 3 skipped, 1 unavailable on this kernel"),
            "{text}"
        );
        for line in [
            "  contest: p a: no root\n",
            "  contest: p a: no nft\n",
            "  contest: p b: no root\n",
            "  contest: p c: sch_netem: no module (runs in vm)\n",
            "  bans: the whole rung: cargo-deny is missing\n",
            "  browser: --rung does not name it\n",
            "70 ms",
            "1 min 01 s",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    #[test]
    fn skips_of_a_test_or_a_rung_fail_only_where_they_are_refused() {
        let skips = vec![("p a".to_owned(), "no root".to_owned())];
        let of = |outcome: Outcome, skips: Vec<(String, String)>, excused: Vec<String>| {
            let mut summary = Summary::default();
            summary.add("pure", outcome, Verdict { skips, excused }, Duration::ZERO);
            [false, true].map(|refused| summary.passed(refused))
        };
        assert_eq!(of(ran(1), vec![], vec!["p c: no module".into()]), [true, true]);
        assert_eq!(of(ran(1), skips, vec![]), [true, false]);
        assert_eq!(of(Outcome::Skipped("no root".into()), vec![], vec![]), [true, false]);
    }

    #[test]
    fn a_part_that_did_not_run_is_a_skip_and_takes_nothing_from_what_passed() {
        let mut summary = Summary::default();
        let outcome = Outcome::Ran {
            success: true,
            counts: Counts { passed: 3, failed: 0 },
            skipped: vec!["Debian 11 has glibc 2.31".into()],
        };
        summary.add("vm", outcome, Verdict::default(), Duration::ZERO);
        let text = summary.to_string();
        assert!(text.contains("  vm: Debian 11 has glibc 2.31\n"), "{text}");
        assert!(
            text.ends_with("\n3 passed, 0 failed, 1 skipped, 0 unavailable on this kernel"),
            "{text}"
        );
        assert_eq!([false, true].map(|refused| summary.passed(refused)), [true, false]);
    }

    #[test]
    fn a_suite_that_does_not_build_is_a_failure() {
        let mut summary = Summary::default();
        let outcome = Outcome::ran(false, Counts::default());
        summary.add("pure", outcome, Verdict::default(), Duration::ZERO);
        assert!(!summary.passed(false) && summary.to_string().contains("0 passed, 1 failed, 0 skipped"));
    }

    #[test]
    fn a_success_that_reports_no_test_is_a_failure() {
        let mut summary = Summary::default();
        summary.add("pure", ran(0), Verdict::default(), Duration::ZERO);
        let text = summary.to_string();
        assert!(!summary.passed(false) && text.contains("0 passed, 1 failed, 0 skipped"), "{text}");
        assert!(text.contains("  pure: the rung succeeded and reported no test\n"), "{text}");
    }
}
