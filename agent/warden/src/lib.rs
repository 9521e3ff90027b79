//! Admits, keeps and ends injections, one at a time on one thread; it knows no kind by name and never talks to a network.

mod active;
mod admission;
mod bound;
mod causes;
mod doctor;
mod executor;
mod following;
mod handle;
mod journal_fix;
mod kinds;
mod latch;
mod lease;
mod pending_replies;
mod policy;
mod policy_file;
mod protection;
mod report_sequence;
mod rescue;
mod state;
mod thread;
mod undoing;
mod warden;

pub use doctor::examine;
pub use handle::{
    ANSWER_WITHIN, ActiveInjection, AgentStatus, Command, HaltAnswer, HaltLatch, Halted, InventoryItem, QUEUE, Reply, StartOrder,
    WardenError, WardenHandle,
};
pub use kinds::Kinds;
pub use latch::{Latches, engage_host_file, host_latch, release_host_file};
pub use policy::{Policy, SHIPPED};
pub use policy_file::PolicyError;
pub use protection::ProtectedResources;
pub use rescue::{Rescued, Rescuer, rescue};
pub use thread::{SpawnError, spawn};
pub use warden::{Guardian, Parts, ReportSink, Warden};
