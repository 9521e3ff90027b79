//! The packet engine: holds or loses the packets that our rules hand to its queues. It changes no rule, and when it ends they flow.
//!
//! What leaves is dropped at once and its copy sent again later: a packet held at the output hook keeps its sender's socket
//! waiting, and TCP crawls. What comes in belongs to no socket yet and is held where it is.

mod again;
mod chance;
mod echo;
mod held;
mod note;
mod order;
mod queue;
mod run;
mod split;
mod timing;

pub use echo::Probe;
pub use note::{Echoes, PacketNote};
pub use order::{Delay, Distribution, GilbertElliott, Harm, PacketWork};
pub use run::run;
pub use timing::{TimingWork, time};
