//! One stream to the controller for as long as the agent runs: dialled, kept, and dialled again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_warden::{AgentStatus, Command, WardenHandle};
use proto_model::catalogue::Catalogue;
use proto_model::host::HostFacts;
use proto_model::id::InstanceId;
use proto_model::injection::{AgentFact, AgentReport};
use proto_model::time::Timestamp;
use proto_transport::{Backoff, MAX_MESSAGE, Trust, connect};
use proto_wire::v1::agent_message::Body as Say;
use proto_wire::v1::agents_client::AgentsClient;
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::{ControllerMessage, Heartbeat, Hello, InventoryItem, Welcome};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::epochs::Epochs;
use crate::error::SessionError;
use crate::identity::{Identity, IdentityFiles};
use crate::inbox::Inbox;
use crate::orders::{self, ask};
use crate::outbox::Outbox;
use crate::probes::Probes;
use crate::renewal;

/// How long the controller has to welcome us.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// How long a host that has not joined waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What a session tells of its host, besides what the warden knows.
pub struct SessionOptions {
    pub state_dir: PathBuf,
    pub agent_version: String,
    pub catalogue: fn() -> Catalogue,
    pub facts: Box<dyn Fn() -> HostFacts + Send + Sync>,
}

struct Session<'a> {
    options: &'a SessionOptions,
    warden: &'a WardenHandle,
    files: IdentityFiles,
    instance: InstanceId,
    epochs: Epochs,
}

/// Runs until it is dropped: reconnects with full jitter, and never ends by itself.
pub async fn run(options: SessionOptions, warden: WardenHandle, mut reports: mpsc::Receiver<AgentReport>) {
    let files = IdentityFiles::below(&options.state_dir);
    let mut session = Session {
        epochs: Epochs::open(&options.state_dir),
        options: &options,
        warden: &warden,
        files,
        instance: InstanceId::generate(),
    };
    let mut backoff = Backoff::default();
    let mut said = String::new();
    loop {
        let error = match session.once(&mut reports, &mut backoff).await {
            Ok(()) => SessionError::Over("the controller closed the stream".to_owned()),
            Err(error) => error,
        };
        let wait = match &error {
            SessionError::NotEnrolled(_) => LOOK_AGAIN,
            _ => backoff.next_wait(),
        };
        // The same complaint every few seconds is no news.
        let text = error.to_string();
        if text != said {
            tracing::warn!(error = text, "no session; trying again");
            said = text;
        }
        // Reports are in their journals; they are told again when there is somebody to tell.
        let drained = async { while reports.recv().await.is_some() {} };
        let _ = tokio::time::timeout(wait, drained).await;
    }
}

impl Session<'_> {
    /// One connection, from dialling to its end.
    async fn once(&mut self, reports: &mut mpsc::Receiver<AgentReport>, backoff: &mut Backoff) -> Result<(), SessionError> {
        let mut identity = self.files.load()?;
        if renewal::is_expired(&identity) {
            let channel = dial(&identity).await?;
            identity = renewal::renew(channel, &self.files).await?;
        }
        self.spare_controller(&identity).await;
        let channel = dial(&identity).await?;
        let nonce = format!("{}{}", InstanceId::generate(), InstanceId::generate());
        let (outbox, stream) = Outbox::new();
        outbox.send(Say::Hello(self.hello(&nonce).await?)).await?;
        let mut client = AgentsClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let opened = tokio::time::timeout(WELCOME_WITHIN, client.session(ReceiverStream::new(stream))).await;
        let mut orders = opened
            .map_err(|_| SessionError::Over("no welcome within 10 s".to_owned()))?
            .map_err(SessionError::Refused)?
            .into_inner();
        let mut inbox = Inbox::new(nonce);
        let welcome = self.welcomed(&mut orders, &mut inbox).await?;
        backoff.reset();
        tracing::info!(controller = identity.controller, host = welcome.host, "session up");
        self.serve(identity, channel, welcome, orders, inbox, outbox, reports).await
    }

    async fn welcomed(&mut self, orders: &mut Streaming<ControllerMessage>, inbox: &mut Inbox) -> Result<Welcome, SessionError> {
        let first = tokio::time::timeout(WELCOME_WITHIN, orders.message()).await;
        let first = first
            .map_err(|_| SessionError::Over("no welcome within 10 s".to_owned()))?
            .map_err(SessionError::Refused)?;
        let first = first.ok_or_else(|| SessionError::Over("closed before the welcome".to_owned()))?;
        let epoch = first.halt_epoch;
        match inbox.check(first, &mut self.epochs) {
            Ok(Body::Welcome(welcome)) => {
                let (reason, warden) = (welcome.halt_reason.clone(), self.warden);
                if welcome.halted {
                    ask(warden, |reply| Command::Halt { epoch, reason, reply }).await?;
                } else {
                    warden.send(Command::Release { epoch }).map_err(|_| SessionError::Warden)?;
                }
                Ok(welcome)
            }
            Ok(_) => Err(SessionError::Protocol("a session begins with a welcome".to_owned())),
            Err(refused) => Err(SessionError::Protocol(format!("{}: {}", refused.code, refused.message))),
        }
    }

    async fn hello(&self, nonce: &str) -> Result<Hello, SessionError> {
        let status: AgentStatus = ask(self.warden, Command::Status).await?;
        let inventory = ask(self.warden, Command::Inventory).await?;
        let catalogue = (self.options.catalogue)();
        Ok(Hello {
            nonce: nonce.to_owned(),
            agent_version: self.options.agent_version.clone(),
            instance: self.instance.to_string(),
            boot_id: status.boot_id,
            boot_ms: status.boot_ms,
            facts_json: serde_json::to_string(&(self.options.facts)()).unwrap_or_default(),
            catalogue_digest: catalogue.digest(),
            catalogue_json: serde_json::to_string(&catalogue).unwrap_or_default(),
            halt_epoch: self.epochs.halt(),
            halted: status.halted.is_some(),
            halt_reason: status.halted.map(|h| h.reason).unwrap_or_default(),
            store_epoch: self.epochs.store(),
            inventory: inventory
                .into_iter()
                .map(|item| InventoryItem {
                    injection: item.injection.to_string(),
                    run: item.run,
                    state: item.state.as_str().to_owned(),
                    finished: item.finished,
                })
                .collect(),
            cleanliness: status.cleanliness.as_str().to_owned(),
        })
    }

    /// No network fault may ever cut the way to the controller.
    async fn spare_controller(&self, identity: &Identity) {
        match tokio::net::lookup_host(&identity.controller).await {
            Ok(addresses) => {
                let addresses: Vec<SocketAddr> = addresses.collect();
                if self.warden.send(Command::Controllers(addresses)).is_err() {
                    tracing::warn!("the warden was not told where the controller is");
                }
            }
            Err(error) => tracing::warn!(controller = identity.controller, error = %error, "the controller's name does not resolve"),
        }
    }

    #[allow(clippy::too_many_arguments)]
    async fn serve(
        &mut self,
        mut identity: Identity,
        channel: Channel,
        welcome: Welcome,
        mut orders: Streaming<ControllerMessage>,
        mut inbox: Inbox,
        outbox: Outbox,
        reports: &mut mpsc::Receiver<AgentReport>,
    ) -> Result<(), SessionError> {
        let mut tasks = JoinSet::new();
        let mut probes = Probes::default();
        for report in ask(self.warden, Command::Unsettled).await? {
            outbox.report(&report).await?;
        }
        let mut beat = tokio::time::interval(Duration::from_millis(u64::from(welcome.heartbeat_ms.clamp(100, 60_000))));
        let renewal_due = tokio::time::sleep(renewal::due_in(&identity));
        tokio::pin!(renewal_due);
        loop {
            tokio::select! {
                order = orders.message() => {
                    let Some(order) = order.map_err(SessionError::Refused)? else { return Ok(()) };
                    let (seq, epoch) = (order.seq, order.halt_epoch);
                    let refused = match inbox.check(order, &mut self.epochs) {
                        Ok(body) => self.obey(seq, epoch, body, &welcome.host, &outbox, &mut probes, &mut tasks).err(),
                        Err(refused) => Some(refused),
                    };
                    if let Some(refused) = refused {
                        tracing::warn!(order = refused.order_seq, code = refused.code, message = refused.message, "order refused");
                        outbox.send(Say::Refused(refused)).await?;
                    }
                }
                Some(report) = reports.recv() => {
                    // Before the news of a beginning or an end, how many act now: whoever hears of an end may start the next.
                    if report.fact.is_terminal() || matches!(report.fact, AgentFact::Applied(_)) {
                        let status = ask(self.warden, Command::Status).await?;
                        outbox.send(Say::Heartbeat(heartbeat(&status))).await?;
                    }
                    outbox.report(&report).await?;
                }
                _ = beat.tick() => {
                    let status = ask(self.warden, Command::Status).await?;
                    outbox.offer(Say::Heartbeat(heartbeat(&status)));
                }
                () = &mut renewal_due => {
                    match renewal::renew(channel.clone(), &self.files).await {
                        Ok(renewed) => identity = renewed,
                        Err(error) => tracing::warn!(error = %error, "certificate not renewed; trying again"),
                    }
                    renewal_due.set(tokio::time::sleep(renewal::due_in(&identity)));
                }
                Some(done) = tasks.join_next() => {
                    if let Ok(Err(error)) = done {
                        tracing::warn!(error = %error, "an order could not be answered");
                    }
                }
            }
        }
    }

    /// Hands an order on; what has an answer sends it by itself.
    #[allow(clippy::too_many_arguments)]
    fn obey(
        &self,
        seq: u64,
        epoch: u64,
        body: Body,
        host: &str,
        outbox: &Outbox,
        probes: &mut Probes,
        tasks: &mut JoinSet<Result<(), SessionError>>,
    ) -> Result<(), proto_wire::v1::OrderRefused> {
        let malformed = |message: String| orders::malformed(seq, message);
        let (warden, outbox) = (self.warden.clone(), outbox.clone());
        let tell = |command: Command| warden.send(command).map_err(|e| malformed(e.to_string()));
        match body {
            Body::Welcome(_) => return Err(malformed("a second welcome".to_owned())),
            Body::Start(start) => tell(Command::Start(orders::start_order(&start).map_err(malformed)?, Box::new(|()| {})))?,
            Body::Stop(stop) => {
                let id = orders::injections(&[stop.injection]).map_err(malformed)?.remove(0);
                tell(Command::Stop(id, orders::cause(&stop.cause), Box::new(|_| {})))?;
            }
            Body::Lease(lease) => tell(Command::Renew(
                orders::injections(&lease.injections).map_err(malformed)?,
                lease.lease_ms,
            ))?,
            Body::Settled(settled) => tell(Command::Settle(orders::injections(&settled.injections).map_err(malformed)?))?,
            Body::Accept(accept) => tell(Command::Accept {
                by: accept.by,
                reason: accept.reason,
            })?,
            Body::ProbeStart(start) => {
                let spec = serde_json::from_str(&start.probe_json).map_err(|e| malformed(format!("probe: {e}")))?;
                probes.start(&start.run, host, spec, &outbox);
            }
            Body::ProbeStop(stop) => probes.stop(&stop.run),
            Body::Preflight(ask) => drop(tasks.spawn(async move {
                let status: AgentStatus = orders::ask(&warden, Command::Status).await?;
                outbox
                    .send(orders::preflight(&warden, ask.request, &ask.wishes_json, status.boot_id).await?)
                    .await
            })),
            Body::Verify(ask) => {
                let ids = orders::injections(&ask.injections).map_err(malformed)?;
                tasks.spawn(async move { outbox.send(orders::verify(&warden, ask.request, ids).await?).await });
            }
            Body::Halt(halt) => drop(tasks.spawn(orders::halt(warden, epoch, halt.reason, outbox))),
            Body::Release(_) => drop(tasks.spawn(async move { orders::release(&warden, epoch, &outbox).await })),
        }
        Ok(())
    }
}

async fn dial(identity: &Identity) -> Result<Channel, SessionError> {
    Ok(connect(
        &identity.controller,
        Trust::Authority(identity.authority.clone()),
        Some(&identity.client),
    )
    .await?)
}

fn heartbeat(status: &AgentStatus) -> Heartbeat {
    Heartbeat {
        boot_ms: status.boot_ms,
        active: u32::try_from(status.active.len()).unwrap_or(u32::MAX),
        cleanliness: status.cleanliness.as_str().to_owned(),
        halted: status.halted.is_some(),
        guarded: status.guarded,
    }
}

/// The wall clock, for certificates alone.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
