//! What runs inside: the keeper of a host, its first process, the switch, and the small errands; the runner only talks to them.

mod errands;
mod init;
mod keeper;
mod mounts;
mod services;
mod switch;

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::SigSet;

use crate::channel;
use crate::protocol::HostSpec;

pub(crate) use mounts::hierarchies;

const DESCRIPTION: Duration = Duration::from_secs(10);

/// The helper program, by its first argument.
pub fn main(arguments: &[String]) -> Result<()> {
    // Whoever started us may have signals blocked, which is inherited.
    SigSet::empty().thread_set_mask()?;
    let rest = arguments.get(1..).unwrap_or_default();
    match arguments.first().map(String::as_str) {
        Some("keep") => keeper::keep(&description()?),
        Some("init") => init::run(&description()?),
        Some("switch") => switch::run(),
        Some("enter") => errands::enter(rest),
        Some("footprint") => errands::footprint(),
        Some("echo") => errands::echo(rest),
        Some("chat") => errands::chat(rest),
        Some("get") => errands::get(rest),
        other => bail!("no such errand: {other:?}"),
    }
}

/// The first packet on the runner's socket; the keeper and the first process are each sent one.
fn description() -> Result<HostSpec> {
    let received = channel::receive_within(std::io::stdin().as_fd(), DESCRIPTION)?;
    Ok(received.context("the runner is gone")?.0)
}
