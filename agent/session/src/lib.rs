//! The agent's side of the wire: joins once, then keeps one stream up, checks every order, and tells the warden's story until it is settled.

mod enrol;
mod epochs;
mod error;
mod identity;
mod inbox;
mod orders;
mod outbox;
mod probes;
mod renewal;
mod session;

pub use enrol::{EnrolOptions, Enrolled, enrol};
pub use error::SessionError;
pub use session::{SessionOptions, run};
