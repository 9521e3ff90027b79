//! A host in memory for the suites: seen and changed like a real one, with time that the test moves and steps at which it crashes.

mod behind;
mod fixtures;
mod host;
mod path_state;
mod paths;
mod resources;
mod view;

pub use agent_journal::crash::CrashPlan;
pub use fixtures::AGENT_PID;
pub(crate) use fixtures::worker;
pub use host::{FakeHost, Footprint};
pub(crate) use host::{State, Traffic, absent};
