//! Starts worker processes and keeps the pipe by which they live; what a worker does is not known here.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use agent_view::GroupId;
use proto_model::id::InjectionId;
use serde::{Deserialize, Serialize};

use crate::error::OpsError;

/// The kernel ends a worker before anything else when memory runs out.
const OOM_SCORE: &[u8] = b"1000";
const OOM_FILE: &std::ffi::CStr = c"/proc/self/oom_score_adj";

/// What a worker process is to do: it reads this as its first line, then works until its deadline or until the pipe closes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerSpec {
    pub injection: InjectionId,
    pub kind: String,
    pub params: serde_json::Value,
    pub deadline_boot_ms: u64,
}

/// A child of ours; it ends itself when `lifeline` is dropped.
pub(crate) struct Worker {
    pub(crate) group: GroupId,
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Worker {
    /// `account` is the user and group that it becomes. `doors` lead into the group; the worker is inside of it before its program starts.
    pub(crate) fn start(
        agent: &Path,
        account: Option<(u32, u32)>,
        group: &GroupId,
        doors: Vec<File>,
        spec: &WorkerSpec,
    ) -> Result<Self, OpsError> {
        let failed = |e: io::Error| OpsError::new(format!("start a worker of {} by {}", group.0, agent.display()), e);
        let mut order = serde_json::to_vec(spec).map_err(|e| failed(e.into()))?;
        order.push(b'\n');
        let fds: Vec<RawFd> = doors.iter().map(AsRawFd::as_raw_fd).collect();
        let mut command = Command::new(agent);
        command.arg0(&group.0).arg("worker").current_dir("/");
        if let Some((uid, gid)) = account {
            command.args(["--uid", &uid.to_string(), "--gid", &gid.to_string()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
        // Out of our process group: what a terminal sends to the agent is not meant for it.
        command.process_group(0);
        // SAFETY: between fork and exec the closure only makes system calls on descriptors opened before and on constant
        // strings; it allocates nothing and takes no lock. The descriptors live in `doors` until after the spawn.
        unsafe { command.pre_exec(move || enter(&fds)) };
        let mut child = command.spawn().map_err(failed)?;
        drop(doors);
        let lifeline = child.stdin.take();
        let mut worker = Self {
            group: group.clone(),
            child,
            lifeline,
        };
        match worker.tell(&order) {
            Ok(()) => Ok(worker),
            Err(e) => {
                worker.kill();
                Err(failed(e))
            }
        }
    }

    fn tell(&mut self, order: &[u8]) -> io::Result<()> {
        let pipe = self.lifeline.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        pipe.write_all(order)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes the pipe: from here on it ends by itself, if it is not killed before.
    pub(crate) fn let_go(&mut self) {
        self.lifeline = None;
    }

    /// Takes its end from the kernel, so that no zombie stays. False while it lives.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn kill(&mut self) {
        // Fails only when it has ended; then the wait takes note of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs in the child before its program: only async-signal-safe calls.
fn enter(doors: &[RawFd]) -> io::Result<()> {
    for door in doors {
        write_raw(*door, b"0")?;
    }
    // SAFETY: the path is a terminated constant; the flags take no further argument.
    let fd = unsafe { libc::open(OOM_FILE.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let written = write_raw(fd, OOM_SCORE);
    // SAFETY: `fd` was opened above and is closed once.
    unsafe { libc::close(fd) };
    written
}

fn write_raw(fd: RawFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and length describe a slice that outlives the call.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    match usize::try_from(written) {
        Ok(n) if n == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EIO)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
