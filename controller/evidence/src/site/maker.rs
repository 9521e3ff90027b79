//! What makes the files of a site, so that files of another making are known and made anew.

/// How months and the pages of runs are made. Raise it with every change of what they say or how they look: then those that were
/// published are made anew.
const PAGES: u32 = 1;

/// What makes months and the pages of runs: another one may make others of the same log.
pub fn maker() -> String {
    format!("fracas {}, pages {PAGES}", env!("CARGO_PKG_VERSION"))
}
