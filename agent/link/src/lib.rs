//! The way between the agent's two processes: the session, which speaks to the network and has no rights, and the agent, which has them and opens no network.
//!
//! A session asks by `Request`, one frame each on a socket pair: a closed list, every text and list bounded, never JSON. What it
//! asks for is checked here for its form and by the warden for everything else. The other way go answers, reports and names to
//! resolve, as JSON: the agent writes it and never reads it.

mod agent_side;
mod frame;
mod message;
mod patience;
mod program;
mod request;
mod session_side;
#[cfg(feature = "testing")]
pub mod testing;
mod tree;

pub use agent_side::{AgentSide, End, RunProgram};
pub use message::Setup;
pub use program::{ProgramEnd, ProgramOrder};
pub use session_side::{Ended, Programs, SessionSide};
pub use tree::{BadTree, check_params};
