//! One host as the runner holds it: run programs, keep services, look at it; the host ends when this is dropped.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::command::{Cmd, Output, Process};
use crate::footprint::Footprint;
use crate::protocol::{Answer, Ended, HostSpec, ProcessState, Reply, Request, ServiceState};
use crate::{Packages, channel, programs, wait};

const ANSWER: Duration = Duration::from_secs(20);
const KIND_END: Duration = Duration::from_secs(10);

/// What the supervisor does after a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    StartsAgain,
    StaysDown,
}

pub struct Host {
    pub(crate) spec: HostSpec,
    pub(crate) keeper: Child,
    pub(crate) socket: Option<Mutex<OwnedFd>>,
    pub(crate) init_pid: i32,
    pub(crate) logs: PathBuf,
}

impl Host {
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn v4(&self) -> Ipv4Addr {
        self.neighbour().0
    }

    pub fn v6(&self) -> Ipv6Addr {
        self.neighbour().1
    }

    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4().into(), self.v6().into()]
    }

    fn neighbour(&self) -> (Ipv4Addr, Ipv6Addr) {
        let own = self.spec.neighbours.iter().find(|host| host.name == self.spec.name);
        own.map_or((Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED), |host| (host.v4, host.v6))
    }

    /// The first process, as the machine numbers it: what `nsenter --target` wants.
    pub fn init_pid(&self) -> i32 {
        self.init_pid
    }

    /// Runs a program to its end.
    pub fn exec(&self, cmd: Cmd) -> Result<Output> {
        let [mut input, mut output, mut error] = [tempfile::tempfile()?, tempfile::tempfile()?, tempfile::tempfile()?];
        input.write_all(&cmd.stdin)?;
        input.rewind()?;
        let process = self.spawn(&cmd, [input.as_fd(), output.as_fd(), error.as_fd()])?;
        let end = self.finish(&process, cmd.limit)?;
        Ok(Output {
            command: process.command,
            end,
            stdout: text(&mut output)?,
            stderr: text(&mut error)?,
        })
    }

    /// Runs a program that speaks on the runner's own terminal, to its end.
    pub fn attach(&self, cmd: &Cmd) -> Result<Ended> {
        let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let process = self.spawn(cmd, [input.as_fd(), output.as_fd(), error.as_fd()])?;
        self.finish(&process, cmd.limit)
    }

    /// Starts a program whose output goes to `output`.
    pub fn background(&self, cmd: &Cmd, output: &File) -> Result<Process> {
        let mut input = tempfile::tempfile()?;
        input.write_all(&cmd.stdin)?;
        input.rewind()?;
        self.spawn(cmd, [input.as_fd(), output.as_fd(), output.as_fd()])
    }

    fn spawn(&self, cmd: &Cmd, [input, output, error]: [BorrowedFd<'_>; 3]) -> Result<Process> {
        let command = format!("{}: {}", self.name(), cmd.program.argv.join(" "));
        let (status, told) = std::io::pipe()?;
        let request = Request::Exec {
            program: cmd.program.clone(),
        };
        match self.ask(&request, &[input, output, error, told.as_fd()])? {
            Answer::Pid(pid) => Ok(Process {
                command,
                pid,
                status: status.into(),
            }),
            other => bail!("{command}: unexpected answer {other:?}"),
        }
    }

    fn finish(&self, process: &Process, limit: Duration) -> Result<Ended> {
        process.wait(limit).inspect_err(|_| {
            self.signal(process.pid, nix::libc::SIGKILL).ok();
        })
    }

    /// Starts a service that is kept running; its output goes to `LOGS/HOST-SERVICE.log`.
    pub fn start(&self, service: &str, cmd: &Cmd) -> Result<i32> {
        let log = OpenOptions::new().create(true).append(true).open(self.log(service))?;
        let request = Request::Start {
            service: service.to_owned(),
            program: cmd.program.clone(),
        };
        match self.ask(&request, &[log.as_fd()])? {
            Answer::Pid(pid) => Ok(pid),
            other => bail!("start {service} on {}: unexpected answer {other:?}", self.name()),
        }
    }

    pub fn log(&self, service: &str) -> PathBuf {
        self.logs.join(format!("{}-{service}.log", self.name()))
    }

    /// Ends a service with SIGTERM and waits for it; what does not end in 10 s is killed, and that is an error.
    pub fn stop(&self, service: &str) -> Result<()> {
        self.tell(&Request::Stop {
            service: service.to_owned(),
        })?;
        let gone = || Ok(self.service(service)?.pid.is_none());
        let ended = wait::until(format_args!("stop {service} on {}", self.name()), KIND_END, gone);
        ended.map(drop).inspect_err(|_| {
            self.kill9(service, Then::StaysDown).ok();
        })
    }

    /// SIGKILL to a service's first process, and nothing else.
    pub fn kill9(&self, service: &str, then: Then) -> Result<()> {
        self.tell(&Request::Kill {
            service: service.to_owned(),
            again: then == Then::StartsAgain,
        })
    }

    pub fn signal(&self, pid: i32, signal: i32) -> Result<()> {
        self.tell(&Request::Signal { pid, signal })
    }

    pub fn services(&self) -> Result<Vec<ServiceState>> {
        match self.ask(&Request::Services, &[])? {
            Answer::Services(services) => Ok(services),
            other => bail!("services of {}: unexpected answer {other:?}", self.name()),
        }
    }

    pub fn service(&self, name: &str) -> Result<ServiceState> {
        let found = self.services()?.into_iter().find(|service| service.name == name);
        found.ok_or_else(|| anyhow!("{} has no service {name}", self.name()))
    }

    /// The processes of a service's group, as the host numbers them.
    pub fn pids(&self, service: &str) -> Result<Vec<i32>> {
        Ok(self.service(service)?.pids)
    }

    pub fn processes(&self) -> Result<Vec<ProcessState>> {
        match self.ask(&Request::Processes, &[])? {
            Answer::Processes(processes) => Ok(processes),
            other => bail!("processes of {}: unexpected answer {other:?}", self.name()),
        }
    }

    /// The processes of exactly this name.
    pub fn processes_named(&self, name: &str) -> Result<Vec<ProcessState>> {
        Ok(self.processes()?.into_iter().filter(|process| process.name == name).collect())
    }

    /// The path by which the machine sees a file of this host, while it lives.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init_pid)).join(inside.trim_start_matches('/'))
    }

    pub fn write(&self, inside: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(inside);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, text).with_context(|| format!("write {inside} on {}", self.name()))
    }

    pub fn read(&self, inside: &str) -> Result<String> {
        std::fs::read_to_string(self.path(inside)).with_context(|| format!("read {inside} on {}", self.name()))
    }

    /// The processor time that everything on this host has used so far.
    pub fn cpu_time(&self) -> Result<Duration> {
        let read = |name: &str| {
            self.spec
                .groups
                .iter()
                .find_map(|group| std::fs::read_to_string(group.folder.join(name)).ok())
        };
        if let Some(nanos) = read("cpuacct.usage") {
            return Ok(Duration::from_nanos(nanos.trim().parse()?));
        }
        let stat = read("cpu.stat").context("no hierarchy accounts processor time")?;
        let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        Ok(Duration::from_micros(micros.context("cpu.stat holds no usage")?.parse()?))
    }

    /// Everything a fault could touch on this host.
    pub fn snapshot(&self) -> Result<Footprint> {
        Packages::ensure(&["iproute2", "nftables", "iptables"])?;
        let helper = programs::find("fracas-test-host")?;
        let seen = self.exec(Cmd::new(helper.to_string_lossy()).arg("footprint"))?.ok()?;
        serde_json::from_str(&seen).with_context(|| format!("read the footprint of {}", self.name()))
    }

    pub(crate) fn ip(&self, batch: &str) -> Result<()> {
        self.tell(&Request::Ip { batch: batch.to_owned() })
    }

    fn tell(&self, request: &Request) -> Result<()> {
        self.ask(request, &[]).map(drop)
    }

    fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Answer> {
        let socket = self.socket.as_ref().context("the host is ending")?;
        let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
        ask(socket.as_fd(), request, fds).with_context(|| format!("host {}", self.name()))
    }

    pub(crate) fn hang_up(&mut self) {
        self.socket = None;
    }
}

/// One request, one reply.
pub(crate) fn ask(socket: BorrowedFd<'_>, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Answer> {
    channel::send(socket, request, fds)?;
    answer(socket)
}

pub(crate) fn answer(socket: BorrowedFd<'_>) -> Result<Answer> {
    let (reply, _) = channel::receive_within::<Reply>(socket, ANSWER)?.context("it is gone")?;
    reply.map_err(|error| anyhow!(error))
}

fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The end of a log, for an error message.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
