//! What suites tell whoever started them besides passing or failing: skips with reasons, and how long undoing took.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The file that collects notes, one JSON document a line; set by `cargo xtask test`.
pub const FILE: &str = "FRACAS_TEST_NOTES";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// A test that could not be made here.
    Skipped { test: String, reason: String },
    /// One measured way back.
    Undone {
        fault: String,
        /// What ended it: `duration`, `stop`, `kill -9 agent`, ...
        after: String,
        took_ms: u64,
        limit_ms: u64,
    },
}

/// Says that this test was not made, and why. Return right after it.
pub fn skip(reason: &str) {
    // libtest names its threads after the tests.
    let test = std::thread::current().name().unwrap_or("main").to_owned();
    println!("skipped: {test}: {reason}");
    note(&Note::Skipped {
        test,
        reason: reason.to_owned(),
    });
}

/// Records how long an undo took and how long it may; the table is printed at the end of all suites.
pub fn undone(fault: &str, after: &str, took: Duration, limit: Duration) {
    let whole = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    println!("undone: {fault} after {after}: {} ms of {} ms", whole(took), whole(limit));
    note(&Note::Undone {
        fault: fault.to_owned(),
        after: after.to_owned(),
        took_ms: whole(took),
        limit_ms: whole(limit),
    });
}

fn note(note: &Note) {
    let Some(path) = std::env::var_os(FILE) else { return };
    let line = serde_json::to_string(note).unwrap_or_default() + "\n";
    // One write per line, so that lines of parallel tests stay whole.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("could not note {line}: {error}");
    }
}

/// Every note of a file so far; lines that are none are left out.
pub fn notes(path: &Path) -> Vec<Note> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
