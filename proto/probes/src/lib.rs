//! Kinds of probes: what they take, and how those that need no host are asked. Used by controller and agents alike; it judges no run.

mod address;
mod answer;
mod check;
mod command;
mod connect;
mod dns;
mod http;
mod kind;
mod parse;
mod prometheus;
mod registry;
mod runner;
mod tcp;
mod url;

pub use address::AddressRule;
pub use answer::{Answer, Told};
pub use check::{check, timed};
pub use command::{Command, CommandParams, is_program_name};
pub use kind::{AnyProbe, AskedBy, Description, Example, Probe, Timeout, read_params};
pub use parse::{from_text, parse, usage};
pub use registry::{descriptions, find};
pub use runner::{on_beat, run_probe, wall_clock};
