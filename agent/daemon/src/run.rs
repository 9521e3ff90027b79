//! `fracas-agent run`: guardian, warden, local socket and session wired together, and undone in order at the end.

use std::fs::{File, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_probes::{Commands, HostRules};
use agent_session::SessionOptions;
use agent_view::{HostView, LinuxView};
use agent_warden::{Command, Kinds, Latches, Parts, Policy, WardenHandle};
use anyhow::{Context, bail};
use proto_model::host::HostFacts;
use proto_model::injection::{AgentReport, EndedBy};
use proto_model::time::Timestamp;
use proto_program::notify::Notifier;
use proto_program::shutdown::Shutdown;
use rustix::fs::OFlags;
use tokio::sync::mpsc;

use crate::guardian_handle::Keeper;
use crate::host_context::{HostContext, need_root, own_program};
use crate::local_server;
use crate::paths::Paths;

/// Reports on their way to the session; one more is dropped and told again from its journal.
const REPORTS: usize = 1_024;
/// Below what services give themselves; never -1000, at which the kernel would not end us whatever we did.
const OOM_SCORE: &str = "-900";
/// How long a predecessor may take to end.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(5);
/// How long the first connection waits for the guardian. Without one the host is still worth hearing of, though it refuses faults.
const GUARDIAN_WAIT: Duration = Duration::from_secs(2);
const GUARDIAN_POLL: Duration = Duration::from_millis(10);

/// Runs until SIGTERM or SIGINT, then undoes everything.
pub fn run(paths: &Paths, watchdog: Duration) -> anyhow::Result<ExitCode> {
    need_root()?;
    let policy = Policy::load(&paths.config, &agent_faults::catalogue())?;
    paths.make()?;
    let _only_one = only_one(paths)?;
    outlive_others();
    let rules = probe_rules(&policy);
    let (reports, told) = mpsc::channel(REPORTS);
    let (warden, thread) = start_warden(paths, own_program(), policy, watchdog, reports)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()?;
    let clean = runtime.block_on(serve(paths, &warden, told, rules));
    runtime.shutdown_background();
    drop(warden);
    drop(std::fs::remove_file(paths.socket()));
    let ended = wait_for(thread);
    Ok(if clean && ended { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// When memory runs out the kernel ends ordinary programs before us, and our workers before those. The guardian inherits it.
fn outlive_others() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        tracing::warn!(%error, "the kernel may end this agent as early as any other program when memory runs out");
    }
}

/// Two agents on one host would undo each other's work.
fn only_one(paths: &Paths) -> anyhow::Result<File> {
    let path = paths.instance_lock();
    let file = private_file(&path).with_context(|| format!("make {}", path.display()))?;
    let until = Instant::now() + PREDECESSOR_WAIT;
    while file.try_lock().is_err() {
        if Instant::now() >= until {
            bail!("another agent runs on this host: it holds {}", path.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(file)
}

/// Whoever can open a file can lock it, so nobody else may: also not one that was made with other rights.
fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The warden on this host, with a guardian beside it; both run `program`.
pub fn start_warden(
    paths: &Paths,
    program: PathBuf,
    policy: Policy,
    watchdog: Duration,
    reports: mpsc::Sender<AgentReport>,
) -> anyhow::Result<(WardenHandle, JoinHandle<()>)> {
    let host = HostContext::open(paths, program.clone())?;
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
        reports: Box::new(move |report| {
            if reports.try_send(report).is_err() {
                tracing::debug!("a report waits in its journal");
            }
        }),
    };
    agent_warden::spawn(parts).context("start the warden")
}

/// Serves until it is time to end; true when everything could be undone.
async fn serve(paths: &Paths, warden: &WardenHandle, told: mpsc::Receiver<AgentReport>, rules: HostRules) -> bool {
    let signals = Shutdown::listen();
    let listener = match local_server::listen(&paths.socket()) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the local socket cannot be served");
            None
        }
    };
    let local = listener.map(|listener| tokio::spawn(local_server::serve(listener, warden.clone())));
    let (options, connected) = (session_options(paths, rules), warden.clone());
    let session = tokio::spawn(async move {
        await_guardian(&connected).await;
        agent_session::run(options, connected, told).await;
    });
    tell_manager(|manager| manager.ready("waiting for orders"));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the agent is ready");
    let why = until_told(signals).await;
    tracing::info!(why, "the agent ends: everything is undone first");
    tell_manager(Notifier::stopping);
    let clean = leave(warden).await;
    session.abort();
    if let Some(local) = local {
        local.abort();
    }
    clean
}

/// A host that shows itself as connected is about to be given faults, which it refuses while nothing guards it.
async fn await_guardian(warden: &WardenHandle) {
    let guarded = async {
        while !matches!(local_server::heard(warden, Command::Status).await, Ok(status) if status.guarded) {
            tokio::time::sleep(GUARDIAN_POLL).await;
        }
    };
    if tokio::time::timeout(GUARDIAN_WAIT, guarded).await.is_err() {
        tracing::warn!("the guardian does not answer yet; faults are refused until it does");
    }
}

fn probe_rules(policy: &Policy) -> HostRules {
    let probes = &policy.probes;
    let commands = Commands::of(probes.commands.clone(), &probes.user);
    HostRules::of(commands, probes.allow.clone(), probes.deny.clone())
}

/// What the session tells of this host.
fn session_options(paths: &Paths, probe_rules: HostRules) -> SessionOptions {
    let view = LinuxView::with_group_root(&paths.group_root);
    SessionOptions {
        state_dir: paths.state_dir.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        catalogue: agent_faults::catalogue,
        facts: Box::new(move || HostFacts {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..view.facts()
        }),
        probe_rules,
        clock: wall_clock,
    }
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
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
