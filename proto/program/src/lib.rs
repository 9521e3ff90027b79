//! The manners every program shares: settings, logs, shutdown, readiness and exits; it knows nothing of faults or runs.

pub mod config;
pub mod exit;
pub mod logging;
pub mod manual;
pub mod notify;
pub mod shutdown;
