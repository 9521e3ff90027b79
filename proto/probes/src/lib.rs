//! Ways of looking at the system under test that need no host: HTTP, TCP and Prometheus. Used by controller and agents alike; it judges no run.

mod address;
mod check;
mod http;
mod prometheus;
mod runner;
mod tcp;

pub use address::AddressRule;
pub use check::{Answer, Told, check, timed};
pub use runner::{on_beat, run_probe, wall_clock};
