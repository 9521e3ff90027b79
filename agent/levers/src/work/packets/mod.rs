//! The packet engine: holds or loses the packets that our rules hand to its queues. It changes no rule, and when it ends they flow.
//!
//! What leaves is dropped at once and its copy sent again later: a packet held at the output hook keeps its sender's socket
//! waiting, and TCP crawls. What comes in belongs to no socket yet and is held where it is.

mod delay_queue;
mod fragment;
mod order;
mod queue;
mod random_model;
mod reinject;
mod rtt_probe;
mod run;
mod stats_page;
mod timing;

pub use order::{Delay, Distribution, GilbertElliott, Harm, PacketWork};
pub use rtt_probe::Probe;
pub use run::run;
pub use stats_page::{Echoes, PacketNote};
pub use timing::{TimingWork, time};
