//! The agent's side of the wire: enrols once, then dials, obeys orders and tells what became of them. It listens on no port and touches no host.

mod clock;
mod enrol;
mod epochs;
mod errand;
mod files;
mod gatekeeper;
mod hello;
mod numbered;
mod obey;
mod options;
mod probes;
mod pulse;
mod renew;
mod run;
mod session;
mod trust;

pub use enrol::{EnrolError, EnrolOptions, Enrolled, enrol};
pub use files::IdentityError;
pub use options::SessionOptions;
pub use run::run;
