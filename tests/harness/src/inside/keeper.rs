//! Holds one host: makes its groups and its first process, and takes both away when the runner is gone, however it went.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::groups;
use crate::protocol::HostSpec;

const REMOVAL: Duration = Duration::from_secs(10);

/// Standard input is the runner's socket, which the first process answers and the keeper only watches.
pub fn keep(spec: &HostSpec) -> Result<()> {
    groups::make(&spec.groups)?;
    let kept = hold(spec);
    groups::remove(&spec.groups, REMOVAL)?;
    kept
}

fn hold(spec: &HostSpec) -> Result<()> {
    for group in &spec.groups {
        groups::join(&group.folder)?;
    }
    unshare(CloneFlags::CLONE_NEWPID).context("unshare the pid namespace")?;
    let spawned = Command::new("/proc/self/exe")
        .arg0(format!("fracas-test-{}", spec.name))
        .arg("init")
        .stdout(Stdio::null())
        .spawn();
    for group in &spec.groups {
        groups::join(&group.home)?;
    }
    let mut init = spawned.context("start the host's first process")?;
    println!("{}", init.id());
    let watched = watch(Pid::from_child(&init));
    // With pid 1 of a pid namespace the kernel kills everything in it.
    init.kill().ok();
    init.wait().context("wait for the host's first process")?;
    watched
}

/// Until the runner has closed its end or the first process has ended.
fn watch(init: Pid) -> Result<()> {
    let init = pidfd_open(init, PidfdFlags::empty()).context("watch the host's first process")?;
    let socket = std::io::stdin();
    loop {
        let mut fds = [
            PollFd::new(socket.as_fd(), PollFlags::empty()),
            PollFd::new(borrowed(&init), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("watch the runner"),
        }
    }
}

fn borrowed(fd: &impl AsFd) -> BorrowedFd<'_> {
    fd.as_fd()
}
