//! What may be injected: the owner's limits, the experiment's own limits and the fitness of hosts, as one pure function.

mod check;
mod conflicts;
mod denial;
mod environments;
mod fitness;
mod guards;
mod limits;
mod occupancy;
mod owner;
mod rules;
mod stage;
mod unattended;

pub use check::{MAX_RUNS, check};
pub use denial::{Denial, hosts_in_words};
pub use environments::{BUILT_IN, Environment, Environments};
pub use fitness::{Unfitness, unfitness};
pub use occupancy::{ActiveRun, Occupancy};
pub use owner::{EnvironmentPolicy, InvalidPolicy, Policy};
pub use stage::Stage;
pub use unattended::{no_guard, unattended};
