//! Ways of looking that need the host: programs that the host's own policy offers. It injects nothing and judges no run.

mod command;
mod program;
mod running;

pub use command::{Commands, check};
