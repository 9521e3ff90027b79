//! A program for a host to run, and what came of it; the program sees only what is named here.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::interrupt;
use crate::protocol::{Ended, Program};

const DEFAULT_LIMIT: Duration = Duration::from_secs(60);
/// How often a wait looks whether somebody wants to end.
const SLICE_MS: u16 = 100;

/// What to run; as `std::process::Command`, with a limit to its time.
#[derive(Debug, Clone)]
pub struct Cmd {
    pub(crate) program: Program,
    pub(crate) stdin: Vec<u8>,
    pub(crate) limit: Duration,
}

impl Cmd {
    pub fn new(program: impl AsRef<str>) -> Self {
        let program = Program {
            argv: vec![program.as_ref().to_owned()],
            ..Program::default()
        };
        Self {
            program,
            stdin: Vec::new(),
            limit: DEFAULT_LIMIT,
        }
    }

    /// A line for `/bin/sh`.
    pub fn sh(line: impl AsRef<str>) -> Self {
        Self::new("/bin/sh").args(["-c", line.as_ref()])
    }

    pub fn arg(mut self, argument: impl AsRef<str>) -> Self {
        self.program.argv.push(argument.as_ref().to_owned());
        self
    }

    pub fn args<S: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.program
            .argv
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.program.env.insert(name.to_owned(), value.as_ref().to_owned());
        self
    }

    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.program.cwd = Some(folder.into());
        self
    }

    pub fn stdin(mut self, text: impl AsRef<[u8]>) -> Self {
        self.stdin = text.as_ref().to_vec();
        self
    }

    /// The longest it may take (60 s); then it is killed and that is an error.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// What a program said and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    pub command: String,
    pub end: Ended,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn success(&self) -> bool {
        self.end == Ended::Code(0)
    }

    /// The exit code; none after a signal.
    pub fn code(&self) -> Option<i32> {
        match self.end {
            Ended::Code(code) => Some(code),
            Ended::Signal(_) => None,
        }
    }

    /// Its standard output, or an error with all it said.
    pub fn ok(self) -> Result<String> {
        if !self.success() {
            bail!("{}: {:?}: {} {}", self.command, self.end, self.stdout.trim(), self.stderr.trim());
        }
        Ok(self.stdout)
    }
}

/// A program that runs on a host. Dropping it lets it run on.
#[derive(Debug)]
pub struct Process {
    pub(crate) command: String,
    /// As its host numbers it.
    pub(crate) pid: i32,
    pub(crate) status: OwnedFd,
}

impl Process {
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How it ended; an error when it did not within `limit`, or when somebody asked the runner to end.
    pub fn wait(&self, limit: Duration) -> Result<Ended> {
        let start = Instant::now();
        while !self.ended()? {
            if start.elapsed() > limit {
                bail!("{} did not end within {limit:?}", self.command);
            }
            interrupt::check()?;
        }
        self.collect()
    }

    fn ended(&self) -> Result<bool> {
        let mut fds = [PollFd::new(self.status.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(SLICE_MS)) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn collect(&self) -> Result<Ended> {
        let mut text = Vec::new();
        std::fs::File::from(self.status.try_clone()?).read_to_end(&mut text)?;
        serde_json::from_slice(&text).with_context(|| format!("{}: its host is gone", self.command))
    }
}
