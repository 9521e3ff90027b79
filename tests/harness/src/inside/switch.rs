//! Holds the network namespace of a fleet's bridge and lays its cables when told; it ends with the runner.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};

use super::errands::ip;
use crate::channel;
use crate::protocol::{Answer, Reply, Request};

pub fn run() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
    let socket = std::io::stdin();
    while let Some((request, _)) = channel::receive::<Request>(socket.as_fd())? {
        let reply: Reply = match request {
            Request::Ip { batch } => ip(&batch).map(|()| Answer::Done).map_err(|error| format!("{error:#}")),
            other => Err(format!("a switch cannot {other:?}")),
        };
        channel::send(socket.as_fd(), &reply, &[])?;
    }
    Ok(())
}
