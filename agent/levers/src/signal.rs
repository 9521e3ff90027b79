//! Signals to exactly the process that is meant: by pidfd, after its start time was compared. Nobody is signalled by name.

use std::fmt;
use std::io;

use agent_view::{HostView, ProcessStat, ViewError};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use serde::{Deserialize, Serialize};

use crate::error::OpsError;

/// A process acted upon, by pid and start time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    pub pid: u32,
    pub start_time: u64,
    pub name: String,
}

/// The signals that a fault may send for good, under their usual names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum KillSignal {
    #[default]
    Term,
    Kill,
    Int,
    Quit,
    Hup,
    Abrt,
    Segv,
    Usr1,
    Usr2,
}

impl KillSignal {
    pub const ALL: [Self; 9] = [
        Self::Term,
        Self::Kill,
        Self::Int,
        Self::Quit,
        Self::Hup,
        Self::Abrt,
        Self::Segv,
        Self::Usr1,
        Self::Usr2,
    ];

    /// As people write it, without `SIG`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Kill => "KILL",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Hup => "HUP",
            Self::Abrt => "ABRT",
            Self::Segv => "SEGV",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }

    pub(crate) fn number(self) -> Signal {
        match self {
            Self::Term => Signal::TERM,
            Self::Kill => Signal::KILL,
            Self::Int => Signal::INT,
            Self::Quit => Signal::QUIT,
            Self::Hup => Signal::HUP,
            Self::Abrt => Signal::ABORT,
            Self::Segv => Signal::SEGV,
            Self::Usr1 => Signal::USR1,
            Self::Usr2 => Signal::USR2,
        }
    }
}

impl fmt::Display for KillSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns false when it is not there any more, or when `is_meant` says that it is somebody else.
pub(crate) fn send(pid: u32, signal: Signal, is_meant: impl Fn() -> io::Result<bool>) -> io::Result<bool> {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is not a pid")));
    };
    // Held from here on, the pid cannot come to mean another process before the signal is sent.
    let sent = match pidfd_open(target, PidfdFlags::empty()) {
        Ok(fd) => {
            if !is_meant()? {
                return Ok(false);
            }
            pidfd_send_signal(&fd, signal)
        }
        // Kernels before 5.3: the moment between the look and the signal stays open.
        Err(rustix::io::Errno::NOSYS) => {
            if !is_meant()? {
                return Ok(false);
            }
            kill_process(target, signal)
        }
        Err(errno) => Err(errno),
    };
    match sent {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

pub(crate) fn send_to(victim: &Victim, signal: Signal, action: &str, view: &dyn HostView) -> Result<bool, OpsError> {
    let is_meant = || Ok(look(victim, view)?.is_some());
    send(victim.pid, signal, is_meant).map_err(|e| OpsError::new(format!("{action} {} (pid {})", victim.name, victim.pid), e))
}

pub(crate) fn look(victim: &Victim, view: &dyn HostView) -> io::Result<Option<ProcessStat>> {
    same_process(view, victim).map_err(io::Error::other)
}

/// `None` when it has ended; a reused pid is another process. It waits for no file system: one that hangs must keep no process paused.
pub(crate) fn same_process(view: &dyn HostView, victim: &Victim) -> Result<Option<ProcessStat>, ViewError> {
    Ok(view.process_stat(victim.pid)?.filter(|p| p.is(victim.pid, victim.start_time)))
}
