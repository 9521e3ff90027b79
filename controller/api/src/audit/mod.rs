//! Who changed what and who was refused: one line of JSON for each call, in files that only grow. It decides nothing.

mod call;
mod list;
mod log;

pub use log::AuditLog;
