//! The built program against a scripted controller on a socket of the test's own; no agent, no host, nothing of the machine's.

mod cadence;
mod errors;
mod fake;
mod follow;
mod lists;
mod remote;
mod starts;
mod tool;
mod top;
mod usage;
