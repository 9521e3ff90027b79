//! Undo as data, on disk before the deed: one journal per injection; it never undoes anything itself.

#[cfg(any(test, feature = "fake"))]
pub mod crash;
mod disk;
mod error;
mod file;
mod format;
mod history;
mod journal;
#[cfg(any(test, feature = "fake"))]
mod memory;
#[cfg(test)]
mod power;
mod record;
mod store;
mod sync;
mod undo;

pub use error::JournalError;
pub use history::History;
pub use journal::Journal;
pub use record::{Opened, Outcome, Record};
pub use store::JournalStore;
pub use undo::{UndoData, UndoOutcome};
