//! The only voice to agents: sessions, orders, leases, answers; it decides nothing about a run.

mod dispatcher;
mod enrolment;
mod fleet;
mod latch;
mod link;
mod orders;
mod rate;
mod serve;
mod session;
mod settings;
mod voice;

pub use dispatcher::{Dispatcher, DispatcherParts};
pub use latch::HaltLatch;
pub use settings::DispatcherSettings;
pub use voice::{BoxFuture, DispatchError, FromHost, HaltOutcome, PreflightReply, Voice};
