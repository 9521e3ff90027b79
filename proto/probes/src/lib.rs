//! Ways of looking at the system under test that need no host: HTTP and TCP. Used by controller and agents alike; it judges no run.

mod address;
mod check;
mod http;
mod runner;
mod tcp;

pub use address::AddressRule;
pub use check::check;
pub use runner::run_probe;
