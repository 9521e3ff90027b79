//! The controller's memory: an append-only log of events and what is projected from it; it judges nothing.

mod cadence;
mod compaction;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
#[cfg(any(test, feature = "testing"))]
mod contract_evidence;
mod fact;
mod finished;
mod handle;
#[cfg(any(test, feature = "testing"))]
mod memory;
mod records;
mod secret;
mod sqlite;
mod store;
mod summaries;

pub use cadence::{Cadence, FreezeRecord, ScheduleRecord, TICK_KEYS, TickRecord};
pub use compaction::{COMPACTION_STEP, compact_finished_runs};
pub use finished::Finished;
pub use handle::{LastLook, StoreHandle, append_unless};
#[cfg(any(test, feature = "testing"))]
pub use memory::MemoryStore;
pub use records::{Actor, HostRecord, OperatorRecord, RunRow, StoreError, TokenRecord};
pub use secret::{hash_secret, is_secret};
pub use sqlite::SqliteStore;
pub use store::Store;
pub use summaries::{DecidedTest, RunPage, Summaries};
