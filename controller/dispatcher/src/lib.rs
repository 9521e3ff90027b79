//! The only voice to agents: sessions, orders, leases, answers; it decides nothing about a run.

mod catalogues;
mod dispatcher;
mod enrolment;
mod fleet;
mod gateway;
mod halts;
mod hear;
mod latch;
mod link;
mod name_locks;
mod peer;
mod rate;
mod serve;
mod session;
mod settings;
mod tokens;
mod trust;

pub use dispatcher::{Dispatcher, DispatcherParts};
pub use latch::HaltLatch;
pub use settings::DispatcherSettings;
