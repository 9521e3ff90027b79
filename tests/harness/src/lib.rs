//! Hosts made of namespaces, for the suites and the demo; it touches nothing of the machine it runs on and leaves nothing behind.

mod channel;
pub mod command;
pub mod fleet;
pub mod footprint;
pub mod goods;
mod groups;
pub mod host;
pub mod inside;
pub mod interrupt;
pub mod lab;
pub mod limits;
pub mod packages;
pub mod programs;
pub mod protocol;
pub mod python;
pub mod wait;

pub use command::{Cmd, Output, Process};
pub use fleet::{Fleet, FleetPlan};
pub use footprint::Footprint;
pub use host::{Host, Then};
pub use lab::{Lab, LabPlan, shipped_rules};
pub use packages::Packages;
pub use tests_notes as report;
