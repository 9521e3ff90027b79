//! Kinds of fault, one file each, in a folder per family. Only here, and in a kind's own file, is a kind known by name.

mod claim;
mod cpu;
mod fault;
mod network;
mod params;
mod process;
mod registry;
mod work;

pub use claim::Claim;
pub use fault::{Answers, AnyFault, Example, Fault, FaultError, Followed, Kind, Look, Preflight, Protection, Scene};
pub use registry::{catalogue, find, registry};
pub use work::WorkControl;
