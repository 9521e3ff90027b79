//! Keeps a host's services running as a small supervisor does: restart with back-off, stop kindly; it never waits.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{init, mounts};
use crate::protocol::{Ended, ProcessState, Program, ServiceState};

const FIRST_BACK_OFF: Duration = Duration::from_millis(200);
const LAST_BACK_OFF: Duration = Duration::from_secs(5);
/// A service that ran so long starts with a short pause again.
const STEADY: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Services(BTreeMap<String, Service>);

struct Service {
    program: Program,
    log: OwnedFd,
    pid: Option<i32>,
    /// Whether it is started again when it ends.
    kept: bool,
    started: Instant,
    starts: u32,
    back_off: Duration,
    due: Option<Instant>,
    last_end: Option<Ended>,
}

impl Services {
    pub fn start(&mut self, name: String, program: Program, log: OwnedFd) -> Result<i32> {
        if self.0.get(&name).is_some_and(|service| service.pid.is_some()) {
            bail!("service {name} is running already");
        }
        let (started, back_off) = (Instant::now(), FIRST_BACK_OFF);
        let mut service = Service {
            program,
            log,
            pid: None,
            kept: true,
            started,
            starts: 0,
            back_off,
            due: None,
            last_end: None,
        };
        service.spawn(&name)?;
        let pid = service.pid.context("a started service has a pid")?;
        self.0.insert(name, service);
        Ok(pid)
    }

    pub fn stop(&mut self, name: &str) -> Result<()> {
        self.end(name, false, Signal::SIGTERM)
    }

    pub fn kill(&mut self, name: &str, again: bool) -> Result<()> {
        self.end(name, again, Signal::SIGKILL)
    }

    fn end(&mut self, name: &str, again: bool, signal: Signal) -> Result<()> {
        let service = self.0.get_mut(name).with_context(|| format!("no service {name}"))?;
        service.kept = again;
        if !again {
            service.due = None;
        }
        if let Some(pid) = service.pid {
            kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to service {name}"))?;
        }
        Ok(())
    }

    pub fn ended(&mut self, pid: i32, end: Ended) {
        let Some(service) = self.0.values_mut().find(|service| service.pid == Some(pid)) else {
            return;
        };
        service.pid = None;
        service.last_end = Some(end);
        if service.started.elapsed() > STEADY {
            service.back_off = FIRST_BACK_OFF;
        }
        if service.kept {
            service.due = Some(Instant::now() + service.back_off);
            service.back_off = (service.back_off * 2).min(LAST_BACK_OFF);
        }
    }

    pub fn next_start(&self) -> Option<Instant> {
        self.0.values().filter_map(|service| service.due).min()
    }

    pub fn start_due(&mut self) {
        let now = Instant::now();
        for (name, service) in &mut self.0 {
            if service.due.is_some_and(|due| due <= now) && service.spawn(name).is_err() {
                service.due = Some(now + service.back_off);
            }
        }
    }

    pub fn states(&self) -> Vec<ServiceState> {
        let state = |(name, service): (&String, &Service)| ServiceState {
            name: name.clone(),
            pid: service.pid,
            pids: pids(name),
            starts: service.starts,
            last_end: service.last_end,
            kept: service.kept,
        };
        self.0.iter().map(state).collect()
    }
}

impl Service {
    fn spawn(&mut self, name: &str) -> Result<()> {
        let (output, error) = (self.log.try_clone()?, self.log.try_clone()?);
        let mut command = init::command(&group(name), &self.program)?;
        let child = command
            .stdout(output)
            .stderr(error)
            .spawn()
            .with_context(|| format!("start service {name}"))?;
        self.pid = Some(i32::try_from(child.id())?);
        (self.started, self.due) = (Instant::now(), None);
        self.starts += 1;
        Ok(())
    }
}

fn group(service: &str) -> String {
    format!("system.slice/{service}.service")
}

/// The processes in a service's group.
fn pids(service: &str) -> Vec<i32> {
    let mounts = mounts::hierarchies().unwrap_or_default();
    let Some(mount) = mounts.first() else { return Vec::new() };
    let text = fs::read_to_string(mount.join(group(service)).join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|pid| pid.parse().ok()).collect()
}

/// Every process of the host.
pub fn processes() -> Vec<ProcessState> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut all: Vec<ProcessState> = pids.filter_map(process).collect();
    all.sort_by_key(|process| process.pid);
    all
}

fn process(pid: i32) -> Option<ProcessState> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (left, right) = stat.rsplit_once(')')?;
    let mut fields = right.split_whitespace();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = command
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned());
    Some(ProcessState {
        pid,
        name: left.split_once('(')?.1.to_owned(),
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        command: words.filter(|word| !word.is_empty()).collect(),
    })
}
