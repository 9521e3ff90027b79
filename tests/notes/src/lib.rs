//! Notes that tests leave for `cargo xtask test` besides passing or failing: what was skipped and why, and how long undoing took.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The file that collects notes, one JSON document a line; set by `cargo xtask test`.
pub const FILE: &str = "FRACAS_TEST_NOTES";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// A test that did not run here, or not all of it.
    Skipped { test: String, reason: String },
    /// A test whose kernel lacks a capability; accepted only if tests/unavailable.toml lists the test under it.
    Unavailable { test: String, capability: String, reason: String },
    /// One measured way back.
    Undone {
        fault: String,
        /// What ended it: `duration`, `stop`, `kill -9 agent`, ...
        after: String,
        took_ms: u64,
        limit_ms: u64,
    },
}

/// Records that the calling test, or a part of it, does not run here. The only way to skip: tests/tidy refuses every other.
pub fn skip(reason: &str) {
    let test = test_name();
    println!("skipped: {test}: {reason}");
    write(&Note::Skipped {
        test,
        reason: reason.to_owned(),
    });
}

/// Records that this kernel lacks what the calling test is about.
pub fn unavailable(capability: &str, reason: &str) {
    let test = test_name();
    println!("unavailable: {test}: {capability}: {reason}");
    write(&Note::Unavailable {
        test,
        capability: capability.to_owned(),
        reason: reason.to_owned(),
    });
}

/// Whether the calling test must be skipped because this process is not root; records it.
pub fn lacks_root(purpose: &str) -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !root {
        skip(&format!("root is required {purpose}"));
    }
    !root
}

/// Records how long an undo took and how long it may; the table is printed at the end of all suites.
pub fn undone(fault: &str, after: &str, took: Duration, limit: Duration) {
    let whole = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    println!("undone: {fault} after {after}: {} ms of {} ms", whole(took), whole(limit));
    write(&Note::Undone {
        fault: fault.to_owned(),
        after: after.to_owned(),
        took_ms: whole(took),
        limit_ms: whole(limit),
    });
}

/// The calling test as nextest names it (`package::binary test`); with libtest alone, the program and its thread.
fn test_name() -> String {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let (Some(binary), Some(test)) = (variable("NEXTEST_BINARY_ID"), variable("NEXTEST_TEST_NAME")) {
        return format!("{binary} {test}");
    }
    let program = std::env::current_exe().unwrap_or_default();
    let program = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // Cargo appends a hash to the program's name; libtest names its threads after the tests.
    let program = program.rsplit_once('-').map_or(program.as_str(), |(name, _)| name);
    format!("{program} {}", std::thread::current().name().unwrap_or("main"))
}

fn write(note: &Note) {
    let Some(path) = std::env::var_os(FILE) else { return };
    let line = serde_json::to_string(note).unwrap_or_default() + "\n";
    // One write per line, so that lines of parallel tests stay whole.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    // A note that is lost would be a skip that counts as passed.
    assert!(written.is_ok(), "cannot write to {}: {written:?}", path.display());
}

/// Every note of a file so far; none when there is no such file yet.
///
/// # Errors
///
/// A line that is no note: what it reported is lost, so nobody may call the run complete.
pub fn notes(path: &Path) -> std::io::Result<Vec<Note>> {
    match std::fs::read_to_string(path) {
        Ok(text) => text.lines().map(|line| serde_json::from_str(line).map_err(Into::into)).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_and_a_damaged_line_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        assert_eq!(notes(&path).unwrap(), []);
        let note = Note::Skipped {
            test: "a b".into(),
            reason: "c".into(),
        };
        let line = serde_json::to_string(&note).unwrap() + "\n";
        std::fs::write(&path, &line).unwrap();
        assert_eq!(notes(&path).unwrap(), [note]);
        std::fs::write(&path, line + "{\"note\":\"ski").unwrap();
        assert!(notes(&path).is_err());
    }

    #[test]
    fn a_test_knows_its_name() {
        let name = test_name();
        assert!(name.starts_with("tests-notes ") || name.starts_with("tests_notes "), "{name}");
        assert!(name.ends_with(" tests::a_test_knows_its_name"), "{name}");
    }
}
