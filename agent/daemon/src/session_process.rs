//! The agent's side of its session process: starts it, serves it, and starts another when it ends; what it asks for is the warden's to judge.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use agent_link::{AgentSide, ProgramEnd, RunProgram, Setup};
use agent_privileges::Account;
use agent_probes::Commands;
use agent_warden::{Policy, WardenHandle};
use anyhow::Context;
use proto_model::peer::Network;
use tokio::sync::Semaphore;

use crate::own_folder;
use crate::paths::Paths;

/// Between the end of one session process and the start of the next; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A process that lived so long was a good one: the next is started soon.
const GOOD: Duration = Duration::from_secs(60);
/// How long the first connection waits for the guardian. Without one the host is still worth hearing of, though it refuses faults.
const GUARDIAN_WAIT: Duration = Duration::from_secs(2);
const GUARDIAN_POLL: Duration = Duration::from_millis(10);
/// How long a session may take to tell the controller the last of it.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);
/// How long a killed session may take to be gone.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// Programs for probes at the same time.
const PROGRAMS: usize = 64;
/// The program that runs now, also when an upgrade has put another in its place: both sides speak the same language.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// What a session process is started with.
pub struct SessionPlan {
    account: Account,
    identity: PathBuf,
    group_root: PathBuf,
    /// Which addresses probes may ask, and which not.
    allow: Vec<Network>,
    deny: Vec<Network>,
}

impl SessionPlan {
    pub fn of(paths: &Paths, account: Account, policy: &Policy) -> Self {
        Self {
            account,
            identity: paths.identity(),
            group_root: paths.group_root.clone(),
            allow: policy.probes.allow.clone(),
            deny: policy.probes.deny.clone(),
        }
    }

    fn start(&self) -> anyhow::Result<(Child, UnixStream)> {
        own_folder::hand_over(&self.identity, self.account)?;
        let (ours, theirs) = UnixStream::pair().context("make a socket pair")?;
        let mut command = Command::new(THIS_PROGRAM);
        command.arg0("fracas-agent").arg("session").current_dir(&self.identity);
        command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        // The service manager hears from the agent alone.
        for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(variable);
        }
        command.process_group(0);
        Ok((command.spawn().context("start the session process")?, ours))
    }

    fn setup(&self) -> Setup {
        Setup {
            uid: self.account.uid.as_raw(),
            gid: self.account.gid.as_raw(),
            identity: self.identity.clone(),
            group_root: self.group_root.clone(),
            probes_allow: self.allow.clone(),
            probes_deny: self.deny.clone(),
        }
    }
}

/// A session process for as long as the agent runs.
pub struct SessionKeeper {
    side: AgentSide,
    leaving: Arc<AtomicBool>,
    wake: SyncSender<()>,
    over: Receiver<()>,
}

impl SessionKeeper {
    /// From a thread of its own: the kernel ends a session with the thread that started it.
    pub fn start(plan: SessionPlan, side: AgentSide, warden: WardenHandle, run: RunProgram) -> std::io::Result<Self> {
        let leaving = Arc::new(AtomicBool::new(false));
        let (wake, woken) = sync_channel(1);
        let (done, over) = sync_channel(1);
        let (served, stop) = (side.clone(), leaving.clone());
        std::thread::Builder::new().name("session".to_owned()).spawn(move || {
            await_guardian(&warden);
            keep(&plan, &served, &warden, &run, &stop, &woken);
            drop(done);
        })?;
        Ok(Self { side, leaving, wake, over })
    }

    /// Everything is undone: the session tells it and ends; one that takes too long is killed.
    pub fn leave(self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.side.leave();
        drop(self.wake);
        // Nothing is ever sent: the thread ends.
        if let Err(RecvTimeoutError::Timeout) = self.over.recv_timeout(LEAVES_WITHIN) {
            tracing::warn!("the session process does not end; it is killed with the agent");
        }
    }
}

/// A host that shows itself as connected is about to be given faults, which it refuses while nothing guards it.
fn await_guardian(warden: &WardenHandle) {
    let until = Instant::now() + GUARDIAN_WAIT;
    while !warden.status().is_ok_and(|status| status.guarded) {
        if Instant::now() >= until {
            tracing::warn!("the guardian does not answer yet; faults are refused until it does");
            return;
        }
        std::thread::sleep(GUARDIAN_POLL);
    }
}

fn keep(plan: &SessionPlan, side: &AgentSide, warden: &WardenHandle, run: &RunProgram, leaving: &AtomicBool, woken: &Receiver<()>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        // Whatever goes wrong here, this host must be heard of again.
        let end = catch_unwind(AssertUnwindSafe(|| once(plan, side, warden, run)));
        let end = end.unwrap_or_else(|_| Err(anyhow::anyhow!("serving it panicked")));
        if leaving.load(Ordering::Relaxed) {
            return;
        }
        if began.elapsed() >= GOOD {
            pause = FIRST_PAUSE;
        }
        match end {
            Ok(end) => tracing::error!(why = %end, again_in_ms = pause.as_millis(), "the session process is replaced"),
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                again_in_ms = pause.as_millis(),
                "there is no session process: the controller does not hear from this host"
            ),
        }
        // Woken by the end of the agent alone.
        if let Err(RecvTimeoutError::Disconnected) = woken.recv_timeout(pause) {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn once(plan: &SessionPlan, side: &AgentSide, warden: &WardenHandle, run: &RunProgram) -> anyhow::Result<agent_link::End> {
    let (mut child, stream) = plan.start()?;
    tracing::info!(pid = child.id(), uid = plan.account.uid.as_raw(), "the session process is started");
    let end = side.serve(stream, plan.setup(), warden, run);
    // Whatever it was: one that has ended is only waited for.
    child.kill().context("kill the session process")?;
    let until = Instant::now() + ENDS_WITHIN;
    while child.try_wait().context("wait for the session process")?.is_none() {
        if Instant::now() >= until {
            // It may wait for a disk; the next one needs nothing of it.
            tracing::error!(pid = child.id(), "the session process does not end although it was killed");
            break;
        }
        std::thread::sleep(GUARDIAN_POLL);
    }
    Ok(end)
}

/// Runs what the host offers to probes, on the runtime that this is called on.
pub fn run_programs(commands: Commands) -> RunProgram {
    let (runtime, places) = (tokio::runtime::Handle::current(), Arc::new(Semaphore::new(PROGRAMS)));
    Arc::new(move |order, reply| {
        let Ok(place) = places.clone().try_acquire_owned() else {
            return reply(Err(format!("this host runs {PROGRAMS} programs for probes already")));
        };
        let commands = commands.clone();
        runtime.spawn(async move {
            let within = order.timeout();
            let ended = tokio::time::timeout(within, commands.run(&order.program, &order.args, within)).await;
            let ended = ended.unwrap_or_else(|_| Err(format!("{}: it did not end within {} ms", order.program, within.as_millis())));
            reply(ended.map(|ended| ProgramEnd {
                code: ended.code,
                output: ended.output,
            }));
            drop(place);
        });
    })
}
