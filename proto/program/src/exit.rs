//! How a program says that it failed: one line with every cause, and a code; it never prints to standard output.

use std::error::Error;
use std::process::ExitCode;

use crate::stderr;

/// Prints `program: error: cause: cause` on standard error and returns the code to leave with.
pub fn failed(program: &str, error: &dyn Error, code: u8) -> ExitCode {
    stderr::print(&format!("{program}: {}", chain(error)));
    ExitCode::from(code)
}

/// An error and its causes on one line; a cause that its effect already spelt out is not repeated.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open the store")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_cause_is_told_once() {
        assert_eq!(chain(&Outer(std::io::Error::other("disk full"))), "open the store: disk full");
        assert_eq!(chain(&std::io::Error::other("disk full")), "disk full");
    }
}
