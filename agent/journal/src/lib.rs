//! Undo as data, on disk before the deed: one journal per injection; it never undoes anything itself.

mod error;
mod record;
mod undo;

pub use error::JournalError;
pub use record::{Opened, Outcome, Record};
pub use undo::{Undo, UndoOutcome, Victim};
