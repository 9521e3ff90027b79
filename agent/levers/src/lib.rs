//! The agent's hands: journal first, then pull; rewind is the only way back. No kind of fault is known here.

mod hands;
mod levers;
mod traffic;

pub use hands::{Hands, HandsError, WorkerSpec};
pub use levers::{LeverError, Levers, PullContext, UndoLog, WorkerHandle};
pub use traffic::{Direction, PacketFate, Protocol, Spared, TrafficSpec};
