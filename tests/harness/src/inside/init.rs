//! The first process of a host: shapes its namespaces, runs what the runner asks, reaps everything; it ends with the runner.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::errands::ip;
use super::services::{Services, processes};
use super::{errands, mounts};
use crate::protocol::{Answer, Ended, HostSpec, Program, Reply, Request};
use crate::{channel, groups};

pub fn run(spec: &HostSpec) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let shaped = shape(spec)
        .map(|()| Answer::Done)
        .map_err(|error| format!("shape host {}: {error:#}", spec.name));
    let failed = shaped.is_err();
    let socket = std::io::stdin();
    channel::send(socket.as_fd(), &shaped, &[])?;
    if failed {
        return Err(anyhow!("the host could not be made"));
    }
    Init {
        services: Services::default(),
        once: HashMap::new(),
    }
    .serve()
}

fn shape(spec: &HostSpec) -> Result<()> {
    let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
    unshare(namespaces | CloneFlags::CLONE_NEWCGROUP).context("unshare")?;
    mounts::shape(spec)?;
    // Addresses are usable at once, and nobody advertises routes here.
    for (knob, value) in [("default/accept_dad", "0"), ("all/accept_dad", "0"), ("default/accept_ra", "0")] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{knob}"), value).ok();
    }
    ip("link set lo up\n")?;
    // In version 2 only leaves hold processes, so that the root of our view may share its controllers out.
    for mount in mounts::hierarchies()? {
        let leaf = mount.join("init");
        groups::make_folder(&leaf)?;
        groups::join(&leaf)?;
    }
    Ok(())
}

struct Init {
    services: Services,
    /// Programs run once, with the pipe that waits for their end.
    once: HashMap<i32, OwnedFd>,
}

impl Init {
    fn serve(mut self) -> Result<()> {
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        children.thread_block()?;
        let ended = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let socket = std::io::stdin();
        loop {
            let due = self.services.next_start().map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = due.and_then(|due| PollTimeout::try_from(due).ok()).unwrap_or(PollTimeout::NONE);
            let mut fds = [
                PollFd::new(socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(ended.as_fd(), PollFlags::POLLIN),
            ];
            if let Err(error) = poll(&mut fds, timeout)
                && error != nix::errno::Errno::EINTR
            {
                return Err(error.into());
            }
            let spoken = fds[0].any().unwrap_or(false);
            while ended.read_signal()?.is_some() {}
            self.reap();
            self.services.start_due();
            if spoken && !self.listen()? {
                return Ok(());
            }
        }
    }

    /// Answers one request; false when the runner is gone.
    fn listen(&mut self) -> Result<bool> {
        let socket = std::io::stdin();
        let Some((request, fds)) = channel::receive::<Request>(socket.as_fd())? else {
            return Ok(false);
        };
        let reply: Reply = self.answer(request, fds).map_err(|error| format!("{error:#}"));
        channel::send(socket.as_fd(), &reply, &[])?;
        Ok(true)
    }

    fn answer(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<Answer> {
        match request {
            Request::Ip { batch } => errands::ip(&batch)?,
            Request::Exec { program } => return self.exec(&program, fds),
            Request::Start { service, program } => {
                let log = fds.into_iter().next().context("a service needs its log")?;
                return Ok(Answer::Pid(self.services.start(service, program, log)?));
            }
            Request::Stop { service } => self.services.stop(&service)?,
            Request::Kill { service, again } => self.services.kill(&service, again)?,
            Request::Signal { pid, signal } => kill(Pid::from_raw(pid), Signal::try_from(signal)?)?,
            Request::Services => return Ok(Answer::Services(self.services.states())),
            Request::Processes => return Ok(Answer::Processes(processes())),
        }
        Ok(Answer::Done)
    }

    fn exec(&mut self, program: &Program, fds: Vec<OwnedFd>) -> Result<Answer> {
        let [input, output, error, status]: [OwnedFd; 4] = fds.try_into().map_err(|_| anyhow!("a program needs four descriptors"))?;
        let child = command("session", program)?
            .stdin(input)
            .stdout(output)
            .stderr(error)
            .spawn()
            .context("start a program")?;
        let pid = i32::try_from(child.id())?;
        self.once.insert(pid, status);
        Ok(Answer::Pid(pid))
    }

    fn reap(&mut self) {
        loop {
            let (pid, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), Ended::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), Ended::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(status) = self.once.remove(&pid) {
                let told = serde_json::to_vec(&end).unwrap_or_default();
                // Whoever waited may have given up.
                std::fs::File::from(status).write_all(&told).ok();
            } else {
                self.services.ended(pid, end);
            }
        }
    }
}

/// A program that will run in a group of its own, with a clean environment.
pub fn command(group: &str, program: &Program) -> Result<Command> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("enter").arg(group).args(&program.argv).env_clear();
    for (name, default) in [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("TERM", "dumb")] {
        command.env(name, std::env::var(name).unwrap_or_else(|_| default.to_owned()));
    }
    command
        .envs([("HOME", "/root"), ("LANG", "C.UTF-8"), ("TMPDIR", "/run/tmp")])
        .envs(&program.env);
    command
        .current_dir(program.cwd.as_deref().unwrap_or("/".as_ref()))
        .stdin(Stdio::null());
    Ok(command)
}
