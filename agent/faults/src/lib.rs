//! Kinds of fault, one file each, in a folder per family. Only here, and in a kind's own file, is a kind known by name.

mod ability;
mod claim;
mod cpu;
mod disk;
mod fault;
mod memory;
mod network;
#[cfg(test)]
mod paper;
mod params;
mod process;
mod registry;
mod unit;
mod work;
mod worker;

pub use claim::Claim;
pub use fault::{Answers, AnyFault, Example, Fault, FaultError, GroupSeen, Kind, Look, Preflight, Protection, Scene};
pub use registry::{catalogue, find, registry};
pub use work::WorkControl;
