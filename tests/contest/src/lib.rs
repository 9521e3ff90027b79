//! What the suites on the real kernel share: a site to harm, and witnesses that never ask the agent whether it harms.

pub mod goods;
mod harm;
mod net;
mod site;
mod witness;

pub use harm::{Harm, all_gone, irreversible, reversible};
pub use net::{Line, connects_in, datagrams, echoes, hears, reaches};
pub use site::{LEASE, Site, VICTIM, WATCHDOG, impossible};
pub use witness::Witness;
