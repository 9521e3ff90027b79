//! The bare fan-out: the same calls over the same TLS, and one message to every stream when a line asks for it. It is what a controller's
//! halt is measured against.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use proto_model::id::HostName;
use proto_model::time::Timestamp;
use proto_transport::{AUTHORITY_LIFE_MS, Admission, Authorities, Authority, JoinToken, Limits, ServerTls, incoming};
use proto_wire::v1::agents_server::{Agents, AgentsServer};
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::enrolment_server::{Enrolment, EnrolmentServer};
use proto_wire::v1::{AgentMessage, ControllerMessage, EnrolReply, EnrolRequest, Halt, RenewReply, RenewRequest, Welcome, agent_message};
use serde_json::json;
use tests_harness::limits::{monotonic_ns, raise_open_files};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::{lines, print};

/// As a controller with many hosts names it.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Messages that may wait for one stream.
const QUEUE: usize = 16;
const DAY_MS: u64 = 24 * 3_600_000;
/// More streams than any fleet here has.
const FILES: u64 = 65_536;

type Message = Result<ControllerMessage, Status>;

struct Stream {
    nonce: String,
    sent: u64,
    out: mpsc::Sender<Message>,
}

#[derive(Clone)]
struct Echo {
    authority: Arc<Authority>,
    streams: Arc<Mutex<Vec<Stream>>>,
}

pub async fn serve(folder: &Path) -> Result<()> {
    let authority = Authorities::open_or_create(folder, AUTHORITY_LIFE_MS, now())?.current();
    let (certificate, key) = authority.issue_server(now(), DAY_MS)?;
    let tls = ServerTls::new(&[authority.certificate().clone()], certificate, &key)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let admission = Admission::new(Limits::for_open_files(raise_open_files(FILES)?));
    let token = JoinToken::generate(&authority.fingerprint());
    print(&json!({ "address": listener.local_addr()?.to_string(), "token": token.to_string() }))?;
    let echo = Echo {
        authority,
        streams: Arc::default(),
    };
    let server = Server::builder()
        .add_service(AgentsServer::new(echo.clone()))
        .add_service(EnrolmentServer::new(echo.clone()))
        .serve_with_incoming(incoming(listener, tls, &admission));
    let lines = async {
        let mut lines = lines();
        while let Some(line) = lines.recv().await {
            let Some(epoch) = line.strip_prefix("fan-out ") else {
                bail!("line {line:?} is unknown; allowed: fan-out EPOCH")
            };
            print(&echo.fan_out(epoch.parse().context("read the epoch")?))?;
        }
        Ok(())
    };
    tokio::select! {
        served = server => served.context("serve"),
        ended = lines => ended,
    }
}

impl Echo {
    fn fan_out(&self, epoch: u64) -> serde_json::Value {
        let began = monotonic_ns();
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain_mut(|stream| stream.send(epoch, Body::Halt(Halt { reason: "echo".to_owned() })));
        json!({ "epoch": epoch, "streams": streams.len(), "began_ns": began })
    }
}

impl Stream {
    fn send(&mut self, epoch: u64, body: Body) -> bool {
        self.sent += 1;
        let message = ControllerMessage {
            nonce: self.nonce.clone(),
            seq: self.sent,
            halt_epoch: epoch,
            store_epoch: 1,
            body: Some(body),
        };
        self.out.try_send(Ok(message)).is_ok()
    }
}

#[async_trait]
impl Agents for Echo {
    type SessionStream = ReceiverStream<Message>;

    async fn session(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::SessionStream>, Status> {
        let mut messages = request.into_inner();
        let Some(agent_message::Body::Hello(hello)) = messages.message().await?.and_then(|message| message.body) else {
            return Err(Status::invalid_argument("a session begins with hello"));
        };
        let (out, stream) = mpsc::channel(QUEUE);
        let mut own = Stream {
            nonce: hello.nonce,
            sent: 0,
            out,
        };
        let heartbeat_ms = u32::try_from(HEARTBEAT.as_millis()).unwrap_or(u32::MAX);
        own.send(
            0,
            Body::Welcome(Welcome {
                heartbeat_ms,
                ..Welcome::default()
            }),
        );
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(own);
        tokio::spawn(async move { while let Ok(Some(_)) = messages.message().await {} });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        Err(Status::unimplemented("an echo renews nothing"))
    }
}

#[async_trait]
impl Enrolment for Echo {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let request = request.into_inner();
        let host = HostName::parse(&request.hostname).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let certificate = self.authority.issue_host(&request.csr_der, &host, now(), DAY_MS);
        let certificate = certificate.map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(EnrolReply {
            host: host.to_string(),
            certificate_der: certificate.to_vec(),
            chain_der: Vec::new(),
            authority_der: self.authority.certificate().to_vec(),
            trusted_der: Vec::new(),
            not_after_ms: now().plus_ms(DAY_MS).0,
        }))
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
