//! A real browser without a window, for the suite of the pages: what a reader would see, typed and clicked as a reader would.

mod devtools;
mod page;

pub use devtools::Browser;
pub use page::Page;

/// The Debian package that brings it.
pub const PACKAGES: [&str; 1] = ["chromium-headless-shell"];

/// Why these tests cannot run here.
pub fn impossible() -> Option<String> {
    tests_harness::Fleet::impossible()
}
