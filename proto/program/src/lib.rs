//! The manners every program shares: settings, logs, shutdown, readiness and exits; it knows nothing of faults or runs.

pub mod config;
mod dropped;
pub mod exit;
mod journal;
pub mod logging;
pub mod manual;
pub mod notify;
pub mod shutdown;
pub mod stderr;
