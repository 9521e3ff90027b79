//! The session's own process: gives up every right, then speaks to the controller for the agent that started it. It acts on nothing.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_link::{ProgramOrder, SessionSide, Setup};
use agent_privileges::{Account, CapabilitySet, allow_only_a_session, confine};
use agent_probes::{Commands, HostRules, ProgramEnd, Programs};
use agent_session::{IdentityFolder, SessionOptions};
use agent_view::{HostView, LinuxView};
use anyhow::Context;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Uid};
use proto_model::host::HostFacts;
use proto_model::time::Timestamp;

use crate::host_context::need_root;

/// In lists of processes, where it would be called after the link that it is started from.
const NAME: &CStr = c"fracas-session";
const ORDINARY_OOM_SCORE: &str = "0";
/// Memory, one file, open files, and no image of its memory on a disk.
const LIMITS: [(Resource, u64); 4] = [
    (Resource::RLIMIT_DATA, 512 << 20),
    (Resource::RLIMIT_FSIZE, 16 << 20),
    (Resource::RLIMIT_NOFILE, 1_024),
    (Resource::RLIMIT_CORE, 0),
];
/// How often the agent is told that this process lives.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Runs until the agent says that everything is undone, or is gone. It is started with its socket as standard input, in the
/// folder of the identity.
pub fn session() -> anyhow::Result<ExitCode> {
    need_root()?;
    rustix::thread::set_name(NAME).context("name the process")?;
    let socket = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("take the socket to the agent")?;
    let stream = UnixStream::from(socket);
    let setup = SessionSide::setup(&stream).context("hear the agent")?;
    hear_no_signals();
    limit_itself()?;
    give_up_rights(&setup)?;
    let side = SessionSide::open(stream).context("serve the socket to the agent")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()?;
    runtime.block_on(serve(&setup, side));
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// What ends the agent politely is meant for the agent; this process follows it.
fn hear_no_signals() {
    let mut deaf = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        deaf.add(signal);
    }
    let _ = deaf.thread_block();
}

/// The agent's place when memory runs out is for the agent alone, and what a session may use has an end.
fn limit_itself() -> anyhow::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", ORDINARY_OOM_SCORE).context("be an ordinary program when memory runs out")?;
    for (resource, most) in LIMITS {
        setrlimit(resource, most, most).with_context(|| format!("limit {resource:?} to {most}"))?;
    }
    Ok(())
}

fn give_up_rights(setup: &Setup) -> anyhow::Result<()> {
    let account = Account {
        uid: Uid::from_raw(setup.uid),
        gid: Gid::from_raw(setup.gid),
    };
    confine(account, CapabilitySet::empty()).context("give up the rights of root")?;
    // The kernel forgets this whenever the user changes.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).context("end with the agent")?;
    Ok(allow_only_a_session()?)
}

async fn serve(setup: &Setup, side: SessionSide) {
    let SessionSide {
        warden,
        reports,
        programs,
        mut ended,
    } = side;
    let view = LinuxView::with_group_root(&setup.group_root);
    let addresses = {
        let view = view.clone();
        Box::new(move || view.addresses())
    };
    let options = SessionOptions {
        identity: IdentityFolder::current(setup.identity.clone()),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        catalogue: agent_faults::catalogue,
        facts: Box::new(move || HostFacts {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..view.facts()
        }),
        addresses,
        probe_rules: HostRules::of(
            Commands::elsewhere(ByAgent(programs.clone())),
            setup.probes_allow.clone(),
            setup.probes_deny.clone(),
        ),
        clock: wall_clock,
    };
    let alive = async {
        loop {
            programs.alive();
            tokio::time::sleep(ALIVE_EVERY).await;
        }
    };
    tokio::select! {
        () = agent_session::run(options, warden, reports) => {}
        () = ended.wait() => tracing::debug!("the agent is gone, and its session with it"),
        () = alive => {}
    }
}

/// Programs that probes ask for are found, checked and run by the agent.
struct ByAgent(agent_link::Programs);

impl Programs for ByAgent {
    fn run<'a>(
        &'a self,
        program: &'a str,
        args: &'a [String],
        within: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<ProgramEnd, String>> + Send + 'a>> {
        let order = ProgramOrder {
            program: program.to_owned(),
            args: args.to_vec(),
            timeout_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        };
        Box::pin(async move {
            let ended = self.0.run(order).await?;
            Ok(ProgramEnd {
                code: ended.code,
                output: ended.output,
            })
        })
    }
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
