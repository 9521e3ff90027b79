//! `fracas-agent run`: guardian, warden, local socket and session wired together, and undone in order at the end.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use agent_link::AgentSide;
use agent_privileges::Account;
use agent_probes::Commands;
use agent_view::{Feature, Features, LinuxView, Presence, Resolver};
use agent_warden::{Command, Kinds, Latches, Parts, Policy, WardenHandle};
use anyhow::Context;
use proto_model::injection::{AgentReport, EndedBy};
use proto_program::notify::Notifier;
use proto_program::shutdown::Shutdown;

use crate::accounts;
use crate::guardian_handle::Keeper;
use crate::host_context::{HostContext, need_root, own_program};
use crate::instance_lock;
use crate::local_server;
use crate::paths::Paths;
use crate::rescue::undo_under_lock;
use crate::session_process::{SessionKeeper, SessionPlan, run_programs};

/// Below what services give themselves; never -1000, at which the kernel would not end us whatever we did.
const OOM_SCORE: &str = "-900";

/// Runs until SIGTERM or SIGINT, then undoes everything.
pub fn run(paths: &Paths, watchdog: Duration) -> anyhow::Result<ExitCode> {
    need_root()?;
    let policy = Policy::load(&paths.config, &agent_faults::catalogue())?;
    paths.make()?;
    let _only_one = instance_lock::acquire(&paths.instance_lock())?;
    outlive_others();
    look_for_the_last_guard(paths);
    let account = session_account(paths, &policy)?;
    let commands = accounts::commands(&policy);
    let plan = SessionPlan::of(paths, account, &policy);
    let side = AgentSide::default();
    let reports = side.clone();
    let resolver = Some(Arc::new(side.clone()) as Arc<dyn Resolver>);
    let (warden, thread) = start_warden(paths, own_program(), policy, watchdog, resolver, move |report| {
        reports.report(report)
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()?;
    let clean = runtime.block_on(serve(paths, &warden, plan, side, commands));
    runtime.shutdown_background();
    drop(warden);
    drop(std::fs::remove_file(paths.socket()));
    let ended = wait_for(thread);
    Ok(if clean && ended { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Without its users an agent does not start; what another agent left on this host is undone all the same.
fn session_account(paths: &Paths, policy: &Policy) -> anyhow::Result<Account> {
    let found = accounts::session(policy).and_then(|session| accounts::workers(policy).map(|_| session));
    if found.is_err() {
        match undo_under_lock(paths, EndedBy::Rescue, Duration::ZERO) {
            Ok(rescued) if rescued.is_clean() => {}
            Ok(rescued) => {
                let left = rescued.left.len() + rescued.held.len() + rescued.swept.failed.len();
                tracing::error!(left, "the agent does not start, and cannot undo all that another left");
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the agent does not start, and cannot undo what another left");
            }
        }
    }
    found
}

/// When memory runs out the kernel ends ordinary programs before us, and our workers before those. The guardian inherits it.
fn outlive_others() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        tracing::warn!(%error, "the kernel may end this agent as early as any other program when memory runs out");
    }
}

/// Faults are not refused without it (docs/adr/0018): it is for the host's administrator to know that it is missing.
fn look_for_the_last_guard(paths: &Paths) {
    let view = LinuxView::with_group_root(&paths.group_root);
    if let Presence::Absent { why, fix } = view.presence(Feature::LastGuard) {
        tracing::warn!(why, fix, "this host has no last guard");
    }
}

/// The warden on this host, with a guardian beside it; both run `program`.
pub fn start_warden(
    paths: &Paths,
    program: PathBuf,
    policy: Policy,
    watchdog: Duration,
    resolver: Option<Arc<dyn Resolver>>,
    reports: impl Fn(AgentReport) + Send + 'static,
) -> anyhow::Result<(WardenHandle, JoinHandle<()>)> {
    let workers = accounts::workers(&policy)?;
    let host = HostContext::open(paths, program.clone(), resolver, Some(workers))?;
    let keeper = Keeper::new(program, paths.clone(), watchdog).context("give a sign of life")?;
    let parts = Parts {
        view: host.view,
        hands: host.hands,
        journal_store: host.journal_store,
        policy,
        kinds: Kinds {
            find: agent_faults::find,
            catalogue: agent_faults::catalogue,
        },
        latches: Latches::open(&paths.state_dir),
        guardian: Box::new(keeper),
        reports: Box::new(reports),
    };
    agent_warden::spawn(parts).context("start the warden")
}

/// Serves until it is time to end; true when everything could be undone.
async fn serve(paths: &Paths, warden: &WardenHandle, plan: SessionPlan, side: AgentSide, commands: Commands) -> bool {
    let signals = Shutdown::listen();
    let listener = match local_server::listen(&paths.socket()) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the local socket cannot be served");
            None
        }
    };
    let local = listener.map(|listener| tokio::spawn(local_server::serve(listener, warden.clone())));
    let session = SessionKeeper::start(plan, side, warden.clone(), run_programs(commands));
    if let Err(error) = &session {
        tracing::error!(%error, "no session process can be started: the controller does not hear from this host");
    }
    tell_manager(|manager| manager.ready("waiting for orders"));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the agent is ready");
    let clean = undo_on_signal(signals, warden).await;
    if let Ok(session) = session {
        session.leave();
    }
    if let Some(local) = local {
        local.abort();
    }
    clean
}

/// Waits for the signal to end, and undoes everything; true when nothing is left.
pub async fn undo_on_signal(signals: std::io::Result<Shutdown>, warden: &WardenHandle) -> bool {
    let why = until_told(signals).await;
    tracing::info!(why, "the agent ends: everything is undone first");
    tell_manager(Notifier::stopping);
    leave(warden).await
}

/// Waits for the signal to end; without signals the agent would never end well, so then it ends at once.
async fn until_told(signals: std::io::Result<Shutdown>) -> String {
    match signals {
        Ok(mut signals) => signals.asked().await.to_string(),
        Err(error) => format!("signals cannot be heard: {error}"),
    }
}

/// The service manager is told as far as there is one.
fn tell_manager(what: impl Fn(&Notifier) -> std::io::Result<()>) {
    if let Err(error) = Notifier::from_env().and_then(|notifier| what(&notifier)) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

async fn leave(warden: &WardenHandle) -> bool {
    match local_server::heard(warden, |reply| Command::Shutdown(EndedBy::EndedEarly, reply)).await {
        Ok(answer) => {
            tracing::info!(undone = answer.undone, failed = answer.failed, "everything is undone");
            answer.failed == 0
        }
        Err(error) => {
            tracing::error!(%error, "not everything could be undone: the guardian goes on");
            false
        }
    }
}

fn wait_for(thread: JoinHandle<()>) -> bool {
    thread.join().is_ok()
}
