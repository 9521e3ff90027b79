//! Exit codes of the operator's command line: published, stable, and the only place that numbers them.

use crate::verdict::{Cleanup, Verdict};

pub const OK: u8 = 0;
/// The run ended with verdict `error`, or a plan would be refused by a host.
pub const ERROR: u8 = 1;
pub const USAGE: u8 = 2;
pub const INVALID_FILE: u8 = 3;
pub const NOT_AUTHENTICATED: u8 = 4;
pub const FORBIDDEN: u8 = 5;
pub const FAILED: u8 = 6;
/// The run was aborted, or a start was refused because of a halt.
pub const ABORTED: u8 = 7;
pub const NOT_CLEAN: u8 = 8;
/// `--timeout` was reached; the run goes on.
pub const TIMEOUT: u8 = 9;
pub const UNREACHABLE: u8 = 10;
pub const INCONCLUSIVE: u8 = 11;

/// The exit code of a finished run.
pub fn of_run(verdict: Verdict, cleanup: Cleanup) -> u8 {
    if cleanup != Cleanup::Proven {
        return NOT_CLEAN;
    }
    match verdict {
        Verdict::Passed => OK,
        Verdict::Failed => FAILED,
        Verdict::Error => ERROR,
        Verdict::Aborted => ABORTED,
        Verdict::Inconclusive => INCONCLUSIVE,
    }
}
