//! One program while it runs: no shell, a fixed environment, bounded output, and nothing of its group left when it is over.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;

/// The longest output that is read: 64 KiB.
const MAX_OUTPUT: usize = 64 << 10;
const PIECE: usize = 4 << 10;
/// What the kernel gives every program.
const ORDINARY_OOM_SCORE: &str = "0";
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Whose rights a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunAs {
    Ourselves,
    /// This user and group alone, without any other group.
    User {
        uid: u32,
        gid: u32,
    },
}

pub(crate) struct Ended {
    /// `None` after a signal.
    pub code: Option<i32>,
    pub output: Vec<u8>,
}

/// Until it has ended. Dropping the future kills its whole group.
pub(crate) async fn run(program: &Path, args: &[String], rights: RunAs) -> Result<Ended, String> {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", PATH).env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.process_group(0);
    if let RunAs::User { uid, gid } = rights {
        command.uid(uid).gid(gid);
    }
    let mut running = Running::start(command)?;
    let output = running.output().await?;
    let code = running.end()?;
    Ok(Ended { code, output })
}

struct Running {
    /// Taken when it is waited for.
    child: Option<Child>,
    group: Pid,
    /// Readable once the program has ended; it is not reaped before its group is killed.
    ended: Option<AsyncFd<OwnedFd>>,
    stdout: Receiver,
}

impl Running {
    fn start(mut command: Command) -> Result<Self, String> {
        let mut child = command.spawn().map_err(|error| format!("start: {error}"))?;
        // The agent's own score is for the agent. A program that has ended already needs none.
        drop(std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), ORDINARY_OOM_SCORE));
        match Self::of(&mut child) {
            Ok((group, ended, stdout)) => Ok(Self {
                child: Some(child),
                group,
                ended: Some(ended),
                stdout,
            }),
            Err(error) => {
                // Killed, so that waiting is short.
                drop(child.kill().and_then(|()| child.wait()));
                Err(format!("watch: {error}"))
            }
        }
    }

    fn of(child: &mut Child) -> std::io::Result<(Pid, AsyncFd<OwnedFd>, Receiver)> {
        let group = Pid::from_raw(child.id().cast_signed()).ok_or_else(|| std::io::Error::other("it has no pid"))?;
        let handle = pidfd_open(group, PidfdFlags::empty())?;
        let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("it has no output"))?;
        Ok((group, watched(handle)?, Receiver::from_owned_fd(stdout.into())?))
    }

    /// Everything written until the program itself ends; children that go on do not keep us.
    async fn output(&mut self) -> Result<Vec<u8>, String> {
        let Some(ended) = &self.ended else { return Ok(Vec::new()) };
        let mut output = Vec::new();
        let (mut open, mut over) = (true, false);
        while !over {
            tokio::select! {
                end = ended.readable() => {
                    end.map_err(|error| format!("wait for its end: {error}"))?.retain_ready();
                    over = true;
                }
                readable = self.stdout.readable(), if open => {
                    readable.map_err(|error| format!("read its output: {error}"))?;
                }
            }
            open &= self.drain(&mut output)?;
        }
        Ok(output)
    }

    /// What can be read now; false at the end of it.
    fn drain(&self, output: &mut Vec<u8>) -> Result<bool, String> {
        let mut piece = [0; PIECE];
        while output.len() <= MAX_OUTPUT {
            match self.stdout.try_read(&mut piece) {
                Ok(0) => return Ok(false),
                Ok(count) => output.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(format!("read its output: {error}")),
            }
        }
        Err(format!("wrote more than {} KiB", MAX_OUTPUT >> 10))
    }

    /// After its end: what it left of its group goes too.
    fn end(&mut self) -> Result<Option<i32>, String> {
        self.kill();
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let status = child.wait().map_err(|error| format!("wait: {error}"))?;
        Ok(status.code())
    }

    /// The group's number cannot be another's: its leader is not reaped yet.
    fn kill(&self) {
        if let Err(error) = kill_process_group(self.group, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(%error, group = self.group.as_raw_nonzero(), "a probe's command cannot be killed");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(mut child), Some(ended)) = (self.child.take(), self.ended.take()) else {
            return;
        };
        self.kill();
        // Reaped when it is gone, which a killed program soon is; nobody waits for it here.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Ok(mut end) = ended.readable().await {
                    end.retain_ready();
                }
                drop(child.wait());
            });
        }
    }
}

#[expect(deprecated, reason = "its successor is unsafe for descriptors that change; an owned one does not")]
fn watched(handle: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(handle)
}
