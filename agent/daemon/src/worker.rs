//! The body of a load fault's own process: reads what to do, does it, and is gone as soon as the agent or its time is.

use std::ffi::CStr;
use std::io::{BufRead, Read};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_faults::WorkControl;
use agent_levers::WorkerSpec;
use agent_privileges::{Account, confine};
use agent_view::{HostView, LinuxView};
use anyhow::{Context, anyhow};
use nix::unistd::{Gid, Uid};
use proto_model::catalogue::FaultKind;
use rustix::event::{PollFd, PollFlags, poll};

/// What ps and the kernel's log call it: what is ended for want of memory is not the agent.
const NAME: &CStr = c"fracas-worker";
/// The longest order that is read.
const SPEC_MAX: u64 = 1 << 20;
/// The agent ends its faults itself; a worker waits this much longer before it ends alone.
const GRACE_MS: u64 = 1_000;
/// How often the clock is looked at while nothing comes from the agent.
const LOOK_EVERY_MS: i64 = 500;

/// What a worker may take to let go of what it holds after it was told to stop.
const WINDS_UP: Duration = Duration::from_millis(800);

/// Returns only when the work ends by itself; otherwise the process does. `account` is the user and group to become first.
pub fn work(account: Option<(u32, u32)>) -> anyhow::Result<ExitCode> {
    if let Err(error) = rustix::thread::set_name(NAME) {
        tracing::debug!(%error, "the worker goes by the agent's name");
    }
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .take(SPEC_MAX)
        .read_line(&mut line)
        .context("read what to do")?;
    let spec: WorkerSpec = serde_json::from_str(&line).context("understand what to do")?;
    let kind = FaultKind::parse(&spec.kind)?;
    let fault = agent_faults::find(&kind).ok_or_else(|| anyhow!("this agent has no fault {kind}"))?;
    let file = fault.worker_file(&spec.params, &spec.injection)?;
    // The kernel keeps rights for each thread: there is one yet.
    if let Some((uid, gid)) = account {
        let account = Account {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
        };
        confine(account, fault.worker_keeps()).context("give up the rights of root")?;
    }
    let view: Arc<dyn HostView> = Arc::new(LinuxView::new());
    let stop = Arc::new(AtomicBool::new(false));
    let control = WorkControl::new(spec.injection.clone(), spec.deadline_boot_ms, stop.clone(), view.clone()).with_file(file);
    let watcher = std::thread::Builder::new().name("watch".to_owned()).stack_size(64 * 1024);
    watcher.spawn(move || {
        wait_for_end(spec.deadline_boot_ms + GRACE_MS, view.as_ref());
        stop.store(true, Ordering::Relaxed);
        std::thread::sleep(WINDS_UP);
        std::process::exit(0);
    })?;
    fault
        .work(&spec.params, &control)
        .with_context(|| format!("{kind} for {}", spec.injection))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns when the agent has closed its end of the pipe, or after the deadline.
fn wait_for_end(deadline_boot_ms: u64, view: &dyn HostView) {
    let stdin = std::io::stdin();
    let timeout = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: LOOK_EVERY_MS * 1_000_000,
    };
    while view.boot_ms() < deadline_boot_ms {
        let mut fds = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        let spoken = matches!(poll(&mut fds, Some(&timeout)), Ok(n) if n > 0);
        if spoken && matches!(stdin.lock().read(&mut [0]), Ok(0) | Err(_)) {
            return;
        }
    }
}
