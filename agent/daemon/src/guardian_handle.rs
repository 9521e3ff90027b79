//! The agent's side of its guardian: gives signs of life, keeps a guardian running, and tells it to leave at the end.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use agent_warden::Guardian;
use proto_program::notify::Notifier;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::liveness::{Beats, Silence, Whose};
use crate::paths::Paths;

/// Said to the guardian when everything is undone and it may go.
pub const LEAVE: u8 = b'L';
/// A guardian that dies at once is not started again more often.
const RESTART_AFTER: Duration = Duration::from_millis(500);
/// Between two looks at a guardian that is not ready yet, and at one that is.
const WHILE_IT_STARTS: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const LEAVES_WITHIN: Duration = Duration::from_secs(2);

pub struct Keeper {
    program: PathBuf,
    paths: Paths,
    watchdog: Duration,
    beats: Beats,
    guardian: Option<GuardianProcess>,
    next_start: Instant,
    manager: Manager,
}

/// The service manager, when it watches us.
struct Manager {
    notifier: Notifier,
    every: Duration,
    next: Instant,
}

impl Manager {
    fn from_env() -> std::io::Result<Self> {
        let notifier = Notifier::from_env()?;
        Ok(Self {
            every: notifier.watchdog_every().unwrap_or(Duration::MAX),
            next: Instant::now(),
            notifier,
        })
    }

    /// From the warden's own thread, so that one that hangs is noticed.
    fn tell(&mut self) {
        if self.every == Duration::MAX || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + self.every;
        if let Err(error) = self.notifier.alive() {
            tracing::debug!(%error, "the service manager cannot be told that we live");
        }
    }
}

struct GuardianProcess {
    child: Child,
    /// Kept open: its end tells the guardian that we are gone.
    orders: ChildStdin,
    handle: OwnedFd,
    silence: Silence,
    /// It has given a first sign of life.
    ready: bool,
}

impl Keeper {
    /// Starts the first guardian at the first tick.
    pub fn new(program: PathBuf, paths: Paths, watchdog: Duration) -> std::io::Result<Self> {
        let beats = Beats::open(&paths.heartbeat())?;
        Ok(Self {
            program,
            paths,
            watchdog,
            beats,
            guardian: None,
            next_start: Instant::now(),
            manager: Manager::from_env()?,
        })
    }

    fn start(&mut self) -> std::io::Result<GuardianProcess> {
        let silence = Silence::begin(&self.beats, Whose::Guardian);
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.paths.config);
        command.arg("--state-dir").arg(&self.paths.state_dir);
        command.arg("--run-dir").arg(&self.paths.run_dir);
        command.arg("--group-root").arg(&self.paths.group_root);
        command.args(["guardian", "--agent", &std::process::id().to_string()]);
        command.args(["--watchdog-ms", &self.watchdog.as_millis().to_string()]);
        let mut child = command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let opened = child.stdin.take().zip(Pid::from_raw(child.id().cast_signed()));
        let Some((orders, pid)) = opened else {
            return Err(std::io::Error::other("the guardian has no standard input"));
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(error) => {
                // Its end would not be seen, and every further try would leave another process.
                drop(child.kill());
                drop(child.wait());
                return Err(error.into());
            }
        };
        Ok(GuardianProcess {
            child,
            orders,
            handle,
            silence,
            ready: false,
        })
    }

    /// Finds out whether the guardian lives, and starts another when it does not.
    fn look_after(&mut self) {
        if let Some(guardian) = &mut self.guardian {
            guardian.ready |= guardian.silence.listen(&self.beats, Whose::Guardian);
            let silent = guardian.silence.lasts() > self.watchdog;
            if silent {
                tracing::warn!(pid = guardian.child.id(), "the guardian is silent and is replaced");
                drop(guardian.child.kill());
            }
            if silent || has_ended(&guardian.handle) {
                let status = guardian.child.wait().ok().map(|status| status.to_string());
                tracing::warn!(pid = guardian.child.id(), status, "the guardian has ended");
                self.guardian = None;
            }
        }
        if self.guardian.is_none() && Instant::now() >= self.next_start {
            self.next_start = Instant::now() + RESTART_AFTER;
            match self.start() {
                Ok(guardian) => {
                    tracing::info!(pid = guardian.child.id(), "guardian started");
                    self.guardian = Some(guardian);
                }
                Err(error) => tracing::error!(%error, "the guardian cannot be started: nothing is admitted"),
            }
        }
    }
}

impl Guardian for Keeper {
    fn tick(&mut self, boot_ms: u64) {
        if let Err(error) = self.beats.write(Whose::Agent, boot_ms) {
            tracing::error!(%error, "the sign of life cannot be written");
        }
        self.look_after();
        self.manager.tell();
    }

    /// A guardian that starts is soon ready; one that is gone is found within a second.
    fn patience_ms(&self) -> u64 {
        let patience = match &self.guardian {
            None => RESTART_AFTER,
            Some(guardian) if !guardian.ready => WHILE_IT_STARTS,
            Some(_) => (self.watchdog / 8).min(LONGEST_PAUSE).min(self.manager.every),
        };
        u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)
    }

    fn is_guarded(&self) -> bool {
        self.guardian
            .as_ref()
            .is_some_and(|guardian| guardian.ready && !has_ended(&guardian.handle))
    }

    fn leave(&mut self, clean: bool) {
        let Some(mut guardian) = self.guardian.take() else { return };
        if !clean {
            return;
        }
        drop(guardian.orders.write_all(&[LEAVE]));
        drop(guardian.orders);
        let until = Instant::now() + LEAVES_WITHIN;
        while !has_ended(&guardian.handle) && Instant::now() < until {
            wait_for_end(&guardian.handle, until.saturating_duration_since(Instant::now()));
        }
        if has_ended(&guardian.handle) {
            drop(guardian.child.wait());
        }
    }
}

/// Whether the process behind this handle has ended, also when nobody has waited for it yet.
pub fn has_ended(handle: &OwnedFd) -> bool {
    wait_for_end(handle, Duration::ZERO)
}

/// True when it ended within `wait`.
pub fn wait_for_end(handle: &OwnedFd, wait: Duration) -> bool {
    let mut fds = [PollFd::new(handle, PollFlags::IN)];
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    };
    matches!(poll(&mut fds, Some(&timeout)), Ok(n) if n > 0)
}
