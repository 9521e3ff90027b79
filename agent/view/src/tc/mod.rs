//! What the kernel says of our shaped paths, in the calling thread's network namespace; nothing here changes them.

pub mod bpf;
pub mod listing;
pub mod names;
mod paths;
mod routes;
mod shaped;
mod socket;

pub use paths::{DEADLINE_MAP, counters, deadline_of, filters_of, interfaces_to, our_paths};
pub use shaped::{Clsact, PathCounters, PathInterface, PathThing};
pub use socket::{Route, RouteError};
