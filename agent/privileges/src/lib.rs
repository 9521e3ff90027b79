//! What a process of the agent gives up before it works: root, capabilities, and most system calls. It gives nothing back.

mod account;
mod confine;
mod syscalls;

pub use account::Account;
pub use confine::{ConfineError, confine, keep_only};
pub use rustix::thread::CapabilitySet;
pub use syscalls::{FilterError, allow_only_a_session};
