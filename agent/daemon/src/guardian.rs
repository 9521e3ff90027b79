//! The guardian: a process beside the agent that puts everything right when the agent dies or falls silent; it starts nothing.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use agent_privileges::CapabilitySet;
use agent_warden::{Rescuer, rescue};
use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use proto_model::injection::EndedBy;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::accounts;
use crate::guardian_handle::{LEAVE, has_ended, wait_for_end};
use crate::host_context::{HostContext, own_program};
use crate::instance_lock;
use crate::liveness::{Beats, Silence, Whose};
use crate::paths::Paths;

/// It wakes at least so often, to listen and to give its own sign.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// How long a killed agent may take to end.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How long each try of everything goes on, over all journals, with those that are held and undos that fail.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries of everything; the pause doubles up to the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What undoing and ending an agent need, as fracas-guard.service leaves them to the last guard, which undoes the same. The agent needs
/// more, for its workers and to give up root in what it starts.
const KEEPS: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_ADMIN);

/// Why the watch is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The agent has undone everything and said goodbye.
    Leave,
    Dead,
    Silent,
}

/// Watches until the agent says goodbye or must be replaced; then undoes what it left.
pub fn guard(paths: &Paths, agent: u32, watchdog: Duration) -> anyhow::Result<ExitCode> {
    stand_apart();
    if let Err(error) = agent_privileges::keep_only(KEEPS) {
        // One with more rights than it needs still undoes, and none at all would not.
        tracing::warn!(%error, "the guardian keeps capabilities that it does not need");
    }
    let pid = Pid::from_raw(agent.cast_signed()).context("the agent's process id is not one")?;
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Some(handle),
        // It has ended; the kernel says INVAL of one that is just ending.
        Err(Errno::SRCH | Errno::INVAL) => None,
        // No word on the agent, which admits nothing without a guardian that watches it.
        Err(error) => return Err(error).context("hold on to the agent (pidfd_open): `fracas-agent doctor` says what this host lacks"),
    };
    // An agent that ended before the handle was opened is no longer our parent.
    let handle = handle.filter(|_| rustix::process::getppid() == Some(pid));
    let verdict = match &handle {
        Some(handle) => watch(paths, handle, watchdog)?,
        None => Verdict::Dead,
    };
    match (verdict, handle) {
        (Verdict::Leave, _) => return Ok(ExitCode::SUCCESS),
        (Verdict::Silent, Some(handle)) => end_agent(&handle),
        _ => {}
    }
    tracing::warn!(agent, why = ?verdict, "the agent is gone: the guardian undoes what it left");
    Ok(put_right(paths))
}

/// Out of the agent's session and of its unit, deaf to what ends the agent politely.
fn stand_apart() {
    let mut deaf = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        deaf.add(signal);
    }
    let _ = deaf.thread_block();
    let _ = rustix::process::setsid();
    leave_unit(
        Path::new("/sys/fs/cgroup"),
        &std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
    );
}

/// What systemd ends with the agent is its unit's group; the root of that hierarchy is nobody's.
fn leave_unit(root: &Path, groups: &str) {
    for line in groups.lines().filter(|line| line.ends_with(".service") || line.ends_with(".scope")) {
        let hierarchies: &[&str] = match line.split(':').nth(1) {
            Some("") => &["cgroup.procs", "unified/cgroup.procs"],
            Some("name=systemd") => &["systemd/cgroup.procs"],
            _ => &[],
        };
        for file in hierarchies {
            drop(
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(root.join(file))
                    .and_then(|mut f| std::io::Write::write_all(&mut f, b"0")),
            );
        }
    }
}

fn watch(paths: &Paths, agent: &OwnedFd, watchdog: Duration) -> anyhow::Result<Verdict> {
    let beats = Beats::open(&paths.heartbeat()).context("open the signs of life")?;
    let mut silence = Silence::begin(&beats, Whose::Agent);
    let nap = (watchdog / 8).min(LONGEST_NAP);
    let mut own_beat = beats.read(Whose::Guardian).unwrap_or(0);
    let mut orders = Some(std::io::stdin());
    loop {
        own_beat = own_beat.wrapping_add(1);
        beats.write(Whose::Guardian, own_beat).context("give a sign of life")?;
        let spoken = nap_until(agent, orders.as_ref(), nap);
        if spoken && let Some(open) = orders.as_mut() {
            match next_order(open) {
                Some(LEAVE) => return Ok(Verdict::Leave),
                Some(_) => {}
                // The pipe's end alone proves nothing: the handle tells whether the agent is dead.
                None => orders = None,
            }
        }
        if has_ended(agent) {
            return Ok(Verdict::Dead);
        }
        silence.listen(&beats, Whose::Agent);
        if silence.lasts() > watchdog {
            return Ok(Verdict::Silent);
        }
    }
}

/// Sleeps until the agent ends, speaks, or the nap is over; true when it has spoken.
fn nap_until(agent: &OwnedFd, orders: Option<&std::io::Stdin>, nap: Duration) -> bool {
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(nap.as_secs()).unwrap_or(1),
        tv_nsec: nap.subsec_nanos().into(),
    };
    let mut fds = vec![PollFd::new(agent, PollFlags::IN)];
    if let Some(orders) = orders {
        fds.push(PollFd::from_borrowed_fd(orders.as_fd(), PollFlags::IN));
    }
    match poll(&mut fds, Some(&timeout)) {
        Ok(n) if n > 0 => fds.get(1).is_some_and(|fd| !fd.revents().is_empty()),
        _ => false,
    }
}

/// `None` at the end of the pipe.
fn next_order(orders: &mut std::io::Stdin) -> Option<u8> {
    let mut byte = [0];
    match orders.read(&mut byte) {
        Ok(1) => Some(byte[0]),
        _ => None,
    }
}

/// One writer: whoever rewinds for a silent agent makes sure first that it will not wake up.
fn end_agent(handle: &OwnedFd) {
    if let Err(error) = pidfd_send_signal(handle, rustix::process::Signal::KILL) {
        tracing::error!(%error, "the silent agent cannot be killed");
    }
    if !wait_for_end(handle, KILL_WAIT) {
        tracing::error!("the silent agent does not end; its journals are undone under their locks");
    }
}

/// Until nothing is left, or another agent is there to go on: a volume may be mounted again, memory may be free again.
fn put_right(paths: &Paths) -> ExitCode {
    let mut pause = LONGEST_NAP;
    loop {
        match undo_all(paths) {
            Ok(true) => return ExitCode::SUCCESS,
            Ok(false) => {}
            Err(error) => tracing::error!("the guardian cannot undo yet, and tries again: {error:#}"),
        }
        if instance_lock::is_held(&paths.instance_lock()) {
            tracing::warn!("another agent runs: it goes on with what is left");
            return ExitCode::FAILURE;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// True when nothing is left.
fn undo_all(paths: &Paths) -> anyhow::Result<bool> {
    let mut host = HostContext::open(paths, own_program(), None, accounts::workers_if_known(paths))?;
    let rescuer = Rescuer {
        ended_by: EndedBy::Guardian,
        name: "guardian",
        patience: PATIENCE,
    };
    let rescued = rescue(&host.journal_store, host.hands.as_mut(), host.view.as_ref(), rescuer)?;
    let left = rescued.left.len() + rescued.held.len();
    tracing::info!(undone = rescued.undone.len(), left, "the guardian has undone");
    Ok(rescued.is_clean())
}
