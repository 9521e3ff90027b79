//! From plan to decisions: a pure machine that says what to record and what to do, and a thin driver that records before it acts.

mod active;
mod admissible;
mod anchors;
mod answers;
mod clock;
mod driver;
mod going;
mod guards;
mod host_gateway;
mod latch;
mod late;
mod leases;
mod machine;
mod mass_loss;
mod phases;
mod proofs;
mod proving;
mod reports;
mod revive;
mod routing;
mod sampling;
mod settings;
mod steps;
mod summaries;
mod supervisor;
mod track;
mod unclean;

pub use answers::{Accepted, HaltAnswer, StopAnswer, StopOutcome, StopTarget};
pub use clock::RunClock;
pub use host_gateway::{BoxFuture, GatewayError, HaltOutcome, HostEvent, HostGateway, PreflightReply};
pub use latch::Latch;
pub use leases::Leased;
pub use machine::{Action, Conductor, Decision, Input};
pub use mass_loss::MassLossRule;
pub use settings::Settings;
pub use supervisor::{Supervisor, SupervisorParts};
