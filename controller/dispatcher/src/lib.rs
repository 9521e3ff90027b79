//! The only voice to agents: sessions, orders, leases, answers; it decides nothing about a run.

mod voice;

pub use voice::{BoxFuture, DispatchError, FromHost, HaltOutcome, PreflightReply, Voice};
