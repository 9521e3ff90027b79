//! A fleet simulator: many scripted hosts in one process that speak an agent's side of the wire over mutual TLS. It judges nothing and touches
//! no host.

mod behaviour;
mod connection;
mod counts;
mod fleet;
mod host;
mod identity;
mod injection;
mod wire;

pub use behaviour::Behaviour;
pub use counts::{Counts, HaltTimes};
pub use fleet::{Fleet, FleetError};
pub use identity::{EnrolError, Enrolment, Member, enrol};
