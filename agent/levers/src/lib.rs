//! The agent's hands: journal first, then pull; rewind is the only way back. No kind of fault is known here.

mod ballast;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod groups;
mod hands;
mod levers;
mod linux;
mod net;
mod path;
mod prove;
mod renew;
mod rewind;
mod signal;
mod spawn;
#[cfg(test)]
mod suite;
mod tc;
mod traffic;
pub mod work;

pub use hands::{Hands, HandsError, Made, PathOpening, ScaffoldLeft, WorkerSpec};
pub use levers::{LeverError, Levers, PathHandle, PullContext, UndoLog, WorkerHandle};
pub use linux::LinuxHands;
pub use path::{Packets, PathSpec, Rate, Shape};
pub use prove::prove;
pub use renew::renew;
pub use rewind::{DRAIN_WITHIN_MS, END_GROUP_WITHIN_MS, Rewound, UndoFailure, rewind};
pub use signal::KillSignal;
pub use traffic::{Direction, Fate, Lose, PacketFate, Protocol, Queues, SocketGroups, Spared, TrafficSpec};
