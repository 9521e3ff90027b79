//! The agent's side of the wire: enrols once, then dials, obeys orders and tells what became of them. It listens on no port and touches no host.

mod clock;
mod enrol;
mod epochs;
mod files;
mod heartbeat;
mod hello;
mod obey;
mod options;
mod order_validator;
mod probes;
mod renew;
mod run;
mod sequence;
mod session;
mod trust;
mod warden_client;

pub use enrol::{EnrolError, EnrolOptions, Enrolled, enrol};
pub use files::{IdentityError, IdentityFolder, controller_of};
pub use options::SessionOptions;
pub use run::run;
