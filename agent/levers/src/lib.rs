//! The agent's hands: journal first, then pull; rewind is the only way back. No kind of fault is known here.

mod ballast;
mod ballast_state;
mod clean_check;
mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod groups;
mod host_ops;
mod kinds;
mod levers;
mod linux;
mod netfilter;
mod path;
mod prove;
mod renew;
mod rewind;
mod signal;
mod spawn;
#[cfg(test)]
mod suite;
mod sweep;
mod tc;
mod traffic;
pub mod work;

pub use ballast::{Ballast, FileHandle};
pub use clean_check::Findings;
pub use error::OpsError;
pub use host_ops::HostOps;
pub use kinds::ballast::RemoveBallast;
pub use kinds::groups::{DrainGroup, EmptyGroup, WorkerHandle};
pub use kinds::knobs::RestoreKnob;
#[cfg(feature = "fake")]
pub use kinds::ops;
pub use kinds::path::{PathHandle, RemovePath};
pub use kinds::processes::ResumeProcesses;
pub use kinds::traffic::RemoveTraffic;
pub use kinds::{History, Journal, JournalStore, Undo};
pub use levers::{LeverError, Levers, PullContext, UndoLog};
pub use linux::LinuxOps;
pub use path::{ClsactPlace, ClsactRemoval, Packets, PathOpening, PathSpec, Rate, Shape};
pub use prove::{inspect, prove};
pub use renew::{renew, spare};
pub use rewind::{Rewind, RewindReport, UndoFailure, rewind};
pub use signal::{KillSignal, Victim};
pub use spawn::WorkerSpec;
pub use sweep::{Swept, sweep};
pub use traffic::{Direction, Exemptions, Fate, Lose, PacketFate, Protocol, Queues, SocketGroups, TrafficSpec};
