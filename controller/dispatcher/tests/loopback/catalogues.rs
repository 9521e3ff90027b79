//! A catalogue is named by its digest, and shown only to a controller that does not know it.

use std::sync::{Arc, Mutex};

use proto_transport::{Admission, Authority, Limits, incoming};
use proto_wire::v1::agent_message::Body;
use proto_wire::v1::agents_server::{Agents, AgentsServer};
use proto_wire::v1::{AgentMessage, ControllerMessage, Hello, RenewReply, RenewRequest};
use tokio::net::TcpListener;
use tokio_stream::Empty;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

use crate::agent::{Agent, Bare, hello, join};
use crate::controller::tls;
use crate::eventually;
use crate::sessions::joined;

#[tokio::test]
async fn a_catalogue_is_asked_for_once_and_then_known_by_its_digest() {
    let (_dir, web, controller) = joined().await;
    let db = tempfile::tempdir().unwrap();
    let token = controller.token(1, 60_000).await;
    join(db.path(), controller.address, &token, "db").await.unwrap();
    let named = |instance: &str| Hello {
        catalogue_json: String::new(),
        ..hello(instance, "n")
    };
    let refused = Bare::dial(web.path(), controller.address, named("a")).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(!controller.is_connected("web"));
    let mut shown = Bare::dial(web.path(), controller.address, hello("a", "n")).await.unwrap();
    assert!(shown.order().await.unwrap().is_some(), "a welcome");
    let mut other = Bare::dial(db.path(), controller.address, named("b")).await.unwrap();
    assert!(other.order().await.unwrap().is_some(), "a welcome");
    assert_eq!(
        controller.host("db").unwrap().catalogue_digest,
        controller.host("web").unwrap().catalogue_digest
    );
    drop(other);
    eventually("the other is gone", || !controller.is_connected("db")).await;
    // As agents do that know nothing of this.
    let mut older = Bare::dial(db.path(), controller.address, hello("b", "m")).await.unwrap();
    assert!(older.order().await.unwrap().is_some(), "a welcome");
}

/// Refuses every hello; the next code for each.
struct Refusing {
    codes: Mutex<Vec<Code>>,
    shown: Arc<Mutex<Vec<bool>>>,
}

#[async_trait]
impl Agents for Refusing {
    type SessionStream = Empty<Result<ControllerMessage, Status>>;

    async fn session(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::SessionStream>, Status> {
        let first = request.into_inner().message().await?.and_then(|message| message.body);
        let Some(Body::Hello(hello)) = first else {
            return Err(Status::internal("no hello"));
        };
        let code = self.codes.lock().unwrap().pop().unwrap_or(Code::Unavailable);
        self.shown.lock().unwrap().push(!hello.catalogue_json.is_empty());
        Err(Status::new(code, "as the script says"))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        Err(Status::unimplemented("it only refuses"))
    }
}

async fn refuse(address: std::net::SocketAddr, authority: &Authority, codes: &[Code]) -> Arc<Mutex<Vec<bool>>> {
    let listener = TcpListener::bind(address).await.unwrap();
    let connections = incoming(listener, tls(authority), &Admission::new(Limits::default()));
    let shown = Arc::default();
    let refusing = Refusing {
        codes: Mutex::new(codes.iter().rev().copied().collect()),
        shown: Arc::clone(&shown),
    };
    let server = Server::builder().add_service(AgentsServer::new(refusing));
    tokio::spawn(server.serve_with_incoming(connections));
    shown
}

#[tokio::test]
async fn an_agent_shows_its_catalogue_only_where_its_digest_was_refused() {
    let (_dir, host, controller) = joined().await;
    let authority = controller.authority.clone();
    let address = controller.killed().await;
    // The digest is not known; then as a controller refuses that expects the catalogue in every hello; then nothing about catalogues.
    let codes = [
        Code::FailedPrecondition,
        Code::Unavailable,
        Code::InvalidArgument,
        Code::Unavailable,
        Code::Unavailable,
    ];
    let shown = refuse(address, &authority, &codes).await;
    let _agent = Agent::start(host.path());
    eventually("six hellos", || shown.lock().unwrap().len() >= 6).await;
    assert_eq!(shown.lock().unwrap()[..6], [false, true, false, true, false, false]);
}
