//! Ways of looking that need the host: programs that the host's own policy offers. It injects nothing and judges no run.

mod check;
mod command;
mod commands;
mod host_rules;
mod kind;
mod program;
mod running;

pub use check::check;
pub use commands::{Commands, ProgramEnd, Programs};
pub use host_rules::HostRules;
pub use running::RunAs;
