//! Store, dispatcher, supervisor and front doors wired together, and ended in order.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use controller_api::{ADMIN_GROUP, Api, ApiParts, AuditLog, DoorLayer, Glances, Keyring};
use controller_conductor::{MassLossRule, RunClock, Settings, Supervisor, SupervisorParts};
use controller_dispatcher::{Dispatcher, DispatcherParts, DispatcherSettings, HaltLatch};
use controller_scheduler::Scheduler;
use controller_store::{Actor, SqliteStore, StoreHandle, compact_finished_runs};
use nix::unistd::{Group, chown, geteuid};
use proto_model::event::FleetEventBody;
use proto_probes::AddressRule;
use proto_program::notify::Notifier;
use proto_program::shutdown::Shutdown;
use proto_transport::{Admission, AnswerLayer, Authorities, Limits, ServerTls, incoming, incoming_local};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;
use tonic::transport::Server;

use crate::certificate;
use crate::clock::{self, now};
use crate::config::Config;
use crate::open_files;
use crate::operator;
use crate::options::Options;

/// What hosts say may wait for the supervisor.
const SAID: usize = 4_096;
/// How long open calls have to end.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// How long an operator's call may take until it is answered; a watch is answered at once and goes on.
const CALL_WITHIN: Duration = Duration::from_secs(80);
/// How long agents have to come back before a schedule is looked at: what is due then needs its hosts.
const RECONNECT: Duration = Duration::from_secs(10);
/// Keepalive of the listeners.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// What an operator's connection may send before it is read; small, because peers that nobody knows have it too.
const WINDOW: u32 = 64 << 10;
/// Calls of one connection at the same time.
const STREAMS_PER_CONNECTION: u32 = 128;

/// Until SIGTERM or SIGINT. Runs that are going are stopped by the next start, and by their leases before that.
pub async fn serve(options: &Options, config: Config) -> anyhow::Result<()> {
    let mut signals = Shutdown::listen().context("listen for signals")?;
    let admission = Admission::new(Limits::for_open_files(open_files::raise_limit()));
    private_folder(&options.state_dir)?;
    refuse_folder_of_another(&options.state_dir)?;
    let authorities = authorities(options, &config)?;
    let store = StoreHandle::spawn(Box::new(SqliteStore::open(options.state_dir.join("store.db"))?));
    let agents = bind(options.agents_address.unwrap_or(config.agents_address), "agents").await?;
    let operators = bind(options.operators_address.unwrap_or(config.operators_address), "operators").await?;
    let socket = bind_socket(&options.run_dir)?;
    let own = vec![agents.local_addr()?, operators.local_addr()?];
    let (dispatcher, supervisor) = wire(options, &config, authorities.clone(), store.clone(), own).await?;
    let scheduler = Scheduler::new(store.clone(), now);
    let audit = options.state_dir.join("audit");
    let api = Api::new(ApiParts {
        voice: Arc::new(dispatcher.clone()),
        runs: supervisor.clone(),
        store: store.clone(),
        keyring: Keyring::load(store.clone())
            .await?
            .with_revocations(operator::revocations(&options.state_dir))
            .with_authorities(authorities.clone()),
        audit: AuditLog::open(&audit).with_context(|| format!("open the audit log in {}", audit.display()))?,
        policy: config.rules()?,
        authorities: authorities.clone(),
        issued: operator::issued(&options.state_dir),
        reports: options.state_dir.join("reports"),
        now,
        cadence_now: clock::cadence_now,
        scheduler: scheduler.clone(),
        glances: Glances::default(),
    });
    let actor = Actor {
        by: "controller".to_owned(),
        address: String::new(),
    };
    let started = FleetEventBody::ControllerStarted {
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    store.call(move |store| store.fleet(started, &actor, now())).await?;
    let names = config.certificate_names(&[agents.local_addr()?, operators.local_addr()?]);
    let tls = certificate::server_tls(&authorities, &names, now())?;
    tokio::spawn(certificate::keep_fresh(authorities, tls.clone(), names, dispatcher.clone()));
    let (leave, left) = watch::channel(false);
    tracing::info!(agents = %agents.local_addr()?, operators = %operators.local_addr()?, socket = %options.run_dir.join(SOCKET).display(), "the controller is ready");
    let servers = [
        tokio::spawn(to_agents(agents, tls.clone(), admission.clone(), dispatcher, left.clone())),
        tokio::spawn(to_operators(operators, tls, admission, api.clone(), left.clone())),
        tokio::spawn(over_socket(socket, api.routes(), api.layer(), left)),
    ];
    tokio::spawn(make_summaries(supervisor.clone()));
    tokio::spawn(compact_finished_runs(store));
    tokio::spawn(api.clone().forget_what_is_old());
    keep_schedules(scheduler, &api);
    if let Err(error) = Notifier::from_env().and_then(|n| n.ready("serving")) {
        tracing::warn!(error = %error, "the service manager cannot be told");
    }
    let why = signals.asked().await;
    tracing::info!(%why, "the controller ends; agents undo what they hold when their leases run out");
    supervisor.leave();
    leave.send_replace(true);
    for server in servers {
        let _ = tokio::time::timeout(LEAVE_WITHIN, server).await;
    }
    drop(fs::remove_file(options.run_dir.join(SOCKET)));
    Ok(())
}

/// Those that are there, or a first one.
fn authorities(options: &Options, config: &Config) -> anyhow::Result<Arc<Authorities>> {
    let authorities = Authorities::open_or_create(&options.state_dir.join("authority"), config.authority.0, now())?;
    if authorities.created {
        tracing::info!(
            fingerprint = authorities.current().fingerprint(),
            until = %authorities.current().validity().1,
            "a new authority was made; every host will trust it"
        );
    }
    Ok(Arc::new(authorities))
}

async fn make_summaries(supervisor: Supervisor) {
    match supervisor.rebuild_summaries().await {
        Ok(0) => {}
        Ok(made) => tracing::info!(made, "summaries of former runs are made"),
        Err(error) => tracing::warn!(%error, "summaries of former runs were not made; lists make them"),
    }
}

/// A moved clock judges what is due; it starts nothing.
fn keep_schedules(scheduler: Scheduler, api: &Api) {
    if clock::moved_ms() == 0 {
        let api = Arc::new(api.clone());
        tokio::spawn(async move {
            tokio::time::sleep(RECONNECT).await;
            scheduler.run(api).await;
        });
        return;
    }
    tracing::warn!(
        moved_ms = clock::moved_ms(),
        "--clock-offset: a drill; what is due is judged by a moved clock, and no schedule starts anything"
    );
}

const SOCKET: &str = "controller.sock";

async fn wire(
    options: &Options,
    config: &Config,
    authorities: Arc<Authorities>,
    store: StoreHandle,
    own: Vec<SocketAddr>,
) -> anyhow::Result<(Dispatcher, Supervisor)> {
    let latch = Arc::new(HaltLatch::open(
        &options.state_dir.join("halted"),
        store.call(|store| store.halt()).await?,
    ));
    let (said, hears) = mpsc::channel(SAID);
    let known = Arc::default();
    let dispatcher = Dispatcher::new(DispatcherParts {
        store: store.clone(),
        authorities,
        latch: latch.clone(),
        said,
        known: Arc::clone(&known),
        settings: DispatcherSettings {
            heartbeat_ms: config.heartbeat.0,
            certificate_ms: config.certificate.0,
            ..DispatcherSettings::default()
        },
        now,
    })
    .await?;
    let lease_ms = options.lease_ms.unwrap_or(config.lease.0);
    let supervisor = Supervisor::new(SupervisorParts {
        store,
        voice: Arc::new(dispatcher.clone()),
        latch,
        known,
        policy: config.rules()?,
        rule: AddressRule::for_controller(own),
        settings: Settings {
            lease_ms,
            mass_loss: MassLossRule::from(&config.mass_loss),
            ..Settings::default()
        },
        clock: RunClock::new(now),
    });
    let routing = supervisor.clone();
    tokio::spawn(async move { routing.route(hears).await });
    let unfinished = supervisor.recover().await?;
    if unfinished > 0 {
        tracing::warn!(runs = unfinished, "runs that a former controller left unfinished are being stopped");
    }
    Ok((dispatcher, supervisor))
}

async fn to_agents(listener: TcpListener, tls: ServerTls, admission: Admission, dispatcher: Dispatcher, mut left: watch::Receiver<bool>) {
    let connections = incoming(listener, tls, &admission);
    let leave = async move { drop(left.wait_for(|left| *left).await) };
    if let Err(error) = dispatcher.serve_agents(connections, leave).await {
        tracing::error!(error = %error, "the listener for agents failed");
    }
}

async fn to_operators(listener: TcpListener, tls: ServerTls, admission: Admission, api: Api, mut left: watch::Receiver<bool>) {
    let connections = incoming(listener, tls, &admission);
    let leave = async move { drop(left.wait_for(|left| *left).await) };
    let server = Server::builder()
        .timeout(CALL_WITHIN)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(2 * KEEPALIVE))
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
        .initial_connection_window_size(Some(WINDOW))
        .initial_stream_window_size(Some(WINDOW))
        .layer(AnswerLayer)
        .layer(api.layer())
        .add_routes(api.routes_and_pages());
    if let Err(error) = server.serve_with_incoming_shutdown(connections, leave).await {
        tracing::error!(error = %error, "the listener for operators failed");
    }
}

async fn over_socket(listener: UnixListener, routes: Routes, door: DoorLayer, mut left: watch::Receiver<bool>) {
    let leave = async move { drop(left.wait_for(|left| *left).await) };
    let server = Server::builder().timeout(CALL_WITHIN).layer(door).add_routes(routes);
    if let Err(error) = server.serve_with_incoming_shutdown(incoming_local(listener), leave).await {
        tracing::error!(error = %error, "the local socket failed");
    }
}

async fn bind(address: SocketAddr, whose: &'static str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen for {whose} on {address}"))
}

/// 0660, for root and the administrators' group where there is one. A socket that nobody answers is a leftover.
fn bind_socket(run_dir: &Path) -> anyhow::Result<UnixListener> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(run_dir)
        .with_context(|| format!("make {}", run_dir.display()))?;
    let path = run_dir.join(SOCKET);
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        anyhow::bail!("another controller answers at {}", path.display());
    }
    drop(fs::remove_file(&path));
    let listener = UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).with_context(|| format!("guard {}", path.display()))?;
    if let Ok(Some(group)) = Group::from_name(ADMIN_GROUP)
        && let Err(error) = chown(&path, None, Some(group.gid))
    {
        tracing::warn!(group = ADMIN_GROUP, error = %error, "the administrators' group was not given the socket");
    }
    Ok(listener)
}

fn private_folder(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make {}", path.display()))
}

/// What root would leave there, such as the audit log, could not be opened by the controller's own user, and its service would not start again.
fn refuse_folder_of_another(path: &Path) -> anyhow::Result<()> {
    let found = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    ensure!(
        found.uid() == 0 || !geteuid().is_root(),
        "{} belongs to user {}, and root would leave files there that this user cannot read: start the service (systemctl start fracas-controller), \
         or run the controller as that user",
        path.display(),
        found.uid()
    );
    Ok(())
}
