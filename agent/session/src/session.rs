//! One session from hello to its end: orders in, answers, ends and heartbeats out. What is unsettled is told again each time.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use agent_warden::{Command, WardenError, WardenHandle};
use proto_model::host::HostFacts;
use proto_model::id::{HostName, InstanceId};
use proto_model::injection::AgentReport;
use proto_model::time::Timestamp;
use proto_transport::MAX_MESSAGE;
use proto_wire::v1;
use proto_wire::v1::ControllerMessage;
use proto_wire::v1::agent_message::Body as Out;
use proto_wire::v1::agents_client::AgentsClient;
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::order_refused::Why;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::clock::{ControllerClock, offset_ms};
use crate::enrol::ANSWER_WITHIN;
use crate::epochs::{EpochFile, Epochs};
use crate::files::Files;
use crate::heartbeat::Heartbeat;
use crate::hello;
use crate::obey::Hands;
use crate::options::SessionOptions;
use crate::order_validator::{OrderRejected, OrderValidator};
use crate::probes::Probes;
use crate::sequence::numbered;
use crate::trust::{Renewals, is_issued_by_first, take_trust, trust_of};
use crate::warden_client::ask;

/// How often what the probes saw is sent.
const BATCH_EVERY: Duration = Duration::from_secs(1);
/// How often to look whether the host's addresses have changed, and whether anything else that it says of itself has.
const ADDRESSES_EVERY: Duration = Duration::from_secs(2);
const FACTS_EVERY: Duration = Duration::from_secs(60);
/// The shortest time after which ends that nobody settled are told again within one session.
const TELL_AGAIN: Duration = Duration::from_secs(15);
/// How long a leaving agent goes on to tell.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the agent is leaving")]
    Leaving,
    #[error("the warden: {0}")]
    Warden(#[from] WardenError),
    #[error("the controller ended the session: {0}")]
    Status(Box<Status>),
    #[error("the controller closed the session")]
    Closed,
    #[error("the controller did not answer within {} s", ANSWER_WITHIN.as_secs())]
    NoAnswer,
    #[error("an order is missing: {0}")]
    Gap(String),
}

impl End {
    /// The controller has to see the catalogue. One that expects it in every hello calls a hello without it malformed.
    fn wants_catalogue(&self) -> bool {
        matches!(self, Self::Status(status) if matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument))
    }
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// What outlives a session.
pub(crate) struct Lasting<'a> {
    pub options: &'a SessionOptions,
    pub instance: &'a InstanceId,
    pub warden: &'a WardenHandle,
    pub told: &'a mut mpsc::Receiver<AgentReport>,
    pub epochs: &'a mut EpochFile,
    pub clock: &'a ControllerClock,
    pub files: &'a Files,
    pub renewals: &'a Renewals,
    /// When the certificate should be renewed, and how.
    pub renewal: Pin<&'a mut (dyn Future<Output = ()> + Send)>,
}

/// Holds one session until it ends.
pub(crate) async fn hold(channel: Channel, host: &HostName, lasting: Lasting<'_>) -> End {
    match open(channel, host, lasting).await {
        Ok((mut session, mut inbound)) => {
            let end = session.converse(&mut inbound).await;
            // What was said last should arrive: the last reports, or which order is missing.
            if matches!(end, End::Leaving | End::Gap(_)) {
                session.farewell(inbound).await;
            }
            end
        }
        Err(end) => end,
    }
}

struct Session<'a> {
    lasting: Lasting<'a>,
    out: mpsc::Sender<Out>,
    keeper: OrderValidator,
    probes: Probes,
    heartbeat: Heartbeat,
    boot_id: String,
    host: HostName,
    /// As the controller knows them.
    facts: HostFacts,
    facts_read: Instant,
    /// To be told, in order.
    backlog: VecDeque<AgentReport>,
    /// What is unsettled, on its way from the warden; the session goes on meanwhile.
    asked: Option<oneshot::Receiver<Vec<AgentReport>>>,
    only_ended: bool,
    told_again: Instant,
}

async fn open<'a>(channel: Channel, host: &HostName, lasting: Lasting<'a>) -> Result<(Session<'a>, Streaming<ControllerMessage>), End> {
    // What was reported so far is in the journals, and comes with the unsettled.
    while lasting.told.try_recv().is_ok() {}
    let status = hello::status(lasting.warden).await?;
    let owed = hello::inventory(lasting.warden).await?;
    lasting.epochs.saw(Epochs {
        halt: status.halt_epoch,
        store: 0,
    });
    let nonce = InstanceId::generate().to_string();
    let facts = (lasting.options.facts)();
    let seen = lasting.epochs.seen();
    let hello = v1::Hello {
        trust: Some(trust_of(lasting.files)),
        ..hello::hello(lasting.options, lasting.instance, &nonce, &status, seen, owed, &facts)
    };
    let boot_id = status.boot_id.clone();
    let (out, inbound) = match call(channel.clone(), hello.clone()).await {
        Err(end) if end.wants_catalogue() => call(channel, hello::with_catalogue(hello, lasting.options)).await?,
        called => called?,
    };
    let asked = Some(ask(lasting.warden, Command::Unsettled)?);
    let rules = lasting.options.probe_rules.clone();
    let session = Session {
        lasting,
        out,
        keeper: OrderValidator::new(nonce),
        probes: Probes::of(host, rules),
        heartbeat: Heartbeat::new(status),
        boot_id,
        host: host.clone(),
        facts,
        facts_read: Instant::now(),
        backlog: VecDeque::new(),
        asked,
        only_ended: false,
        told_again: Instant::now(),
    };
    Ok((session, inbound))
}

async fn call(channel: Channel, hello: v1::Hello) -> Result<(mpsc::Sender<Out>, Streaming<ControllerMessage>), End> {
    let (out, numbered) = numbered();
    drop(out.try_send(Out::Hello(hello)));
    let mut client = AgentsClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    match tokio::time::timeout(ANSWER_WITHIN, client.session(numbered)).await {
        Ok(answer) => Ok((out, answer?.into_inner())),
        Err(_) => Err(End::NoAnswer),
    }
}

impl Session<'_> {
    async fn converse(&mut self, inbound: &mut Streaming<ControllerMessage>) -> End {
        let mut batch = Instant::now() + BATCH_EVERY;
        let mut look = Instant::now() + ADDRESSES_EVERY;
        let out = self.out.clone();
        loop {
            let idle = self.backlog.is_empty();
            tokio::select! {
                order = inbound.message() => match order {
                    Ok(Some(order)) => if let Err(end) = self.order(order) { return end },
                    Ok(None) => return End::Closed,
                    Err(status) => return status.into(),
                },
                permit = out.reserve(), if !idle => match (permit, self.backlog.pop_front()) {
                    (Ok(permit), Some(report)) => permit.send(Out::Report(v1::InjectionReport::from(&report))),
                    _ => return End::Closed,
                },
                unsettled = heard(&mut self.asked) => self.tell_again(unsettled),
                // Not before what is older than it.
                report = self.lasting.told.recv(), if idle && self.asked.is_none() => match report {
                    Some(report) => self.backlog.push_back(report),
                    // The warden has ended, and everything it told is on its way.
                    None => return End::Leaving,
                },
                heartbeat = self.heartbeat.beat(self.lasting.warden) => self.beat(heartbeat),
                () = sleep_until(batch), if !self.probes.is_idle() => {
                    batch = Instant::now() + BATCH_EVERY;
                    self.send_samples();
                },
                () = sleep_until(look) => {
                    look = Instant::now() + ADDRESSES_EVERY;
                    self.send_changed_facts();
                },
                () = &mut self.lasting.renewal => {},
                () = self.lasting.renewals.done() => self.say_trust(),
            }
        }
    }

    /// Closes our half and gives what was sent the time to arrive.
    async fn farewell(self, mut inbound: Streaming<ControllerMessage>) {
        drop(self.out);
        let heard = async { while let Ok(Some(_)) = inbound.message().await {} };
        drop(tokio::time::timeout(FAREWELL, heard).await);
    }

    /// Obeys, or says why not. Only an order that is missing ends the session: what came after it cannot be trusted.
    fn order(&mut self, order: ControllerMessage) -> Result<(), End> {
        let (seq, epochs) = (
            order.seq,
            Epochs {
                halt: order.halt_epoch,
                store: order.store_epoch,
            },
        );
        let admitted = self.keeper.admit(&order, self.lasting.epochs.seen());
        let obeyed = admitted.and_then(|()| self.admitted(order.body, epochs));
        let Err(refused) = obeyed else { return Ok(()) };
        tracing::warn!(
            order = seq,
            code = refused.why.as_str_name(),
            why = refused.message,
            "an order is refused"
        );
        let gap = refused.why == Why::OrderMissing;
        let message = refused.message.clone();
        drop(self.out.try_send(Out::Refused(v1::OrderRefused {
            order_seq: seq,
            message: refused.message,
            why: refused.why.into(),
        })));
        if gap { Err(End::Gap(message)) } else { Ok(()) }
    }

    fn admitted(&mut self, body: Option<Body>, epochs: Epochs) -> Result<(), OrderRejected> {
        let Some(body) = body else { return Ok(()) };
        self.lasting.epochs.saw(epochs);
        if let Body::Welcome(welcome) = &body {
            tracing::info!(host = welcome.host, halted = welcome.halted, "the session is up");
            self.compare_clocks(Timestamp(welcome.clock_ms));
            self.heartbeat.set_every(welcome.heartbeat_ms);
        }
        if let Body::Trust(trust) = &body {
            return self.trust(trust);
        }
        let mut hands = Hands {
            warden: self.lasting.warden,
            out: &self.out,
            probes: &mut self.probes,
            boot_id: &self.boot_id,
            host: &self.host,
            facts: &*self.lasting.options.facts,
        };
        hands.obey(body, epochs.halt)
    }

    /// Stored before it is said: the controller counts on it.
    fn trust(&self, trust: &v1::Trust) -> Result<(), OrderRejected> {
        take_trust(self.lasting.files, trust)?;
        self.say_trust();
        if !is_issued_by_first(self.lasting.files) {
            self.lasting.renewals.ask(Duration::from_millis(trust.renew_within_ms));
        }
        Ok(())
    }

    fn say_trust(&self) {
        // Where the queue is full, the next session says it.
        drop(self.out.try_send(Out::Trust(trust_of(self.lasting.files))));
    }

    fn compare_clocks(&self, controller: Timestamp) {
        self.lasting.clock.set(controller);
        if let Some(ahead_ms) = offset_ms((self.lasting.options.clock)(), controller) {
            tracing::warn!(
                ahead_ms,
                "the clocks of host and controller differ; certificates follow the controller's: set the clock that is wrong"
            );
        }
    }

    fn beat(&mut self, heartbeat: v1::Heartbeat) {
        // A full queue says that we live as well as a heartbeat would.
        drop(self.out.try_send(Out::Heartbeat(heartbeat)));
        if self.heartbeat.unsettled() == 0 || !self.backlog.is_empty() || self.told_again.elapsed() < TELL_AGAIN {
            return;
        }
        self.told_again = Instant::now();
        self.only_ended = true;
        self.asked = ask(self.lasting.warden, Command::Unsettled).ok();
    }

    fn tell_again(&mut self, unsettled: Vec<AgentReport>) {
        self.asked = None;
        self.backlog.extend(match self.only_ended {
            true => ended(unsettled),
            false => unsettled,
        });
    }

    /// An address that came or went since the hello: faults on other hosts aim at this one's addresses.
    fn send_changed_facts(&mut self) {
        let options = self.lasting.options;
        if (options.addresses)() == self.facts.addresses && self.facts_read.elapsed() < FACTS_EVERY {
            return;
        }
        self.facts_read = Instant::now();
        let facts = (options.facts)();
        if facts == self.facts {
            return;
        }
        // Where the queue is full, the next look sends them.
        if self.out.try_send(Out::Facts(v1::HostFacts::from(&facts))).is_ok() {
            tracing::info!(addresses = ?facts.addresses, "the host's facts have changed");
            self.facts = facts;
        }
    }

    fn send_samples(&mut self) {
        for samples in self.probes.batch() {
            if self.out.try_send(Out::Samples(samples)).is_err() {
                tracing::debug!("samples are dropped: too much waits to be sent");
            }
        }
    }
}

/// Comes with the answer; with nothing when there will be none.
async fn heard(asked: &mut Option<oneshot::Receiver<Vec<AgentReport>>>) -> Vec<AgentReport> {
    match asked {
        Some(receiver) => receiver.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// All reports of those injections that have ended.
fn ended(reports: Vec<AgentReport>) -> Vec<AgentReport> {
    let ids: HashSet<_> = reports
        .iter()
        .filter(|r| r.fact.is_terminal())
        .map(|r| r.injection.clone())
        .collect();
    reports.into_iter().filter(|r| ids.contains(&r.injection)).collect()
}
