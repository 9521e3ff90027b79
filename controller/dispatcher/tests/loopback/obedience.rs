//! What an agent does not obey: a puppet in the controller's place says what no controller would.

use std::sync::Mutex;
use std::time::Duration;

use proto_model::id::{InjectionId, RunId};
use proto_transport::{Admission, Limits, incoming};
use proto_wire::v1;
use proto_wire::v1::agent_message::Body;
use proto_wire::v1::agents_server::{Agents, AgentsServer};
use proto_wire::v1::controller_message::Body as Order;
use proto_wire::v1::order_refused::Why;
use proto_wire::v1::{AgentMessage, ControllerMessage, RenewReply, RenewRequest};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::agent::{Agent, join};
use crate::controller::{Controller, tls};
use crate::eventually;

type Orders = mpsc::Sender<Result<ControllerMessage, Status>>;

/// Hands each session to the test.
struct Puppet(Mutex<mpsc::Sender<(Orders, Streaming<AgentMessage>)>>);

#[async_trait]
impl Agents for Puppet {
    type SessionStream = ReceiverStream<Result<ControllerMessage, Status>>;

    async fn session(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::SessionStream>, Status> {
        let (orders, stream) = mpsc::channel(16);
        self.0.lock().unwrap().try_send((orders, request.into_inner())).unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        Err(Status::unimplemented("puppet"))
    }
}

struct Strings {
    sessions: mpsc::Receiver<(Orders, Streaming<AgentMessage>)>,
    agent: Agent,
    _dirs: (tempfile::TempDir, tempfile::TempDir),
}

struct Session {
    orders: Orders,
    said: Streaming<AgentMessage>,
    nonce: String,
}

impl Strings {
    async fn attach() -> Self {
        let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let controller = Controller::start(dirs.0.path()).await;
        join(dirs.1.path(), controller.address, &controller.token(1, 60_000).await, "web")
            .await
            .unwrap();
        let authority = controller.authority.clone();
        let listener = TcpListener::bind(controller.killed().await).await.unwrap();
        let (sender, sessions) = mpsc::channel(4);
        let connections = incoming(listener, tls(&authority), &Admission::new(Limits::default()));
        let server = tonic::transport::Server::builder().add_service(AgentsServer::new(Puppet(Mutex::new(sender))));
        tokio::spawn(server.serve_with_incoming(connections));
        let agent = Agent::start(dirs.1.path());
        Self {
            sessions,
            agent,
            _dirs: dirs,
        }
    }

    async fn session(&mut self) -> Session {
        let next = tokio::time::timeout(Duration::from_secs(15), self.sessions.recv()).await;
        let (orders, mut said) = next.expect("a session within 15 s").unwrap();
        let Some(Body::Hello(hello)) = said.message().await.unwrap().unwrap().body else {
            panic!("a session begins with hello");
        };
        Session {
            orders,
            said,
            nonce: hello.nonce,
        }
    }
}

impl Session {
    async fn order(&self, seq: u64, halt_epoch: u64, store_epoch: u64, body: Order) {
        let nonce = self.nonce.clone();
        let message = ControllerMessage {
            nonce,
            seq,
            halt_epoch,
            store_epoch,
            body: Some(body),
        };
        self.orders.send(Ok(message)).await.unwrap();
    }

    /// What fits among what the agent says next, within 15 s.
    async fn says<T>(&mut self, mut fits: impl FnMut(Body) -> Option<T>) -> T {
        let found = async {
            loop {
                let message = self.said.message().await.unwrap().expect("the session is up");
                if let Some(found) = message.body.and_then(&mut fits) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(15), found)
            .await
            .expect("said within 15 s")
    }

    async fn refused(&mut self) -> (u64, Why) {
        self.says(|body| match body {
            Body::Refused(refused) => Some((refused.order_seq, refused.why())),
            _ => None,
        })
        .await
    }
}

fn start(injection: &InjectionId) -> Order {
    Order::Start(v1::Start {
        injection: injection.to_string(),
        run: RunId::generate().to_string(),
        fault: "cpu.burn".into(),
        params_json: "{}".into(),
        duration_ms: 1_000,
        lease_ms: 1_000,
        plan_digest: "sha256:".into(),
        seed: 1,
        unattended: false,
    })
}

fn ping(request: u64) -> Order {
    Order::Preflight(v1::Preflight {
        request,
        questions: Vec::new(),
    })
}

fn pong(body: Body) -> Option<u64> {
    match body {
        Body::Preflight(answer) => Some(answer.request),
        _ => None,
    }
}

#[tokio::test]
async fn replays_strangers_the_past_and_nonsense_change_nothing() {
    let mut strings = Strings::attach().await;
    let mut session = strings.session().await;
    let id = InjectionId::generate();
    session.order(1, 3, 7, start(&id)).await;
    session.order(1, 3, 7, start(&id)).await;
    assert_eq!(session.refused().await, (1, Why::Replayed));
    let foreign = ControllerMessage {
        nonce: "another".into(),
        seq: 2,
        halt_epoch: 3,
        store_epoch: 7,
        body: Some(start(&InjectionId::generate())),
    };
    session.orders.send(Ok(foreign)).await.unwrap();
    assert_eq!(session.refused().await, (2, Why::WrongSession));
    session.order(2, 2, 7, start(&InjectionId::generate())).await;
    assert_eq!(session.refused().await, (2, Why::StaleHaltEpoch));
    session.order(3, 3, 6, start(&InjectionId::generate())).await;
    assert_eq!(session.refused().await, (3, Why::StaleStoreEpoch));
    let nonsense = v1::Start {
        params_json: "{".into(),
        ..v1::Start::default()
    };
    session.order(4, 3, 7, Order::Start(nonsense)).await;
    assert_eq!(session.refused().await, (4, Why::Malformed));
    let unknown_cause = v1::Stop {
        injection: id.to_string(),
        cause: 99,
    };
    session.order(5, 3, 7, Order::Stop(unknown_cause)).await;
    assert_eq!(session.refused().await, (5, Why::Malformed));
    // What can only undo is obeyed also from an older controller.
    let stop = v1::Stop {
        injection: id.to_string(),
        cause: v1::EndedBy::Stop.into(),
    };
    session.order(6, 0, 0, Order::Stop(stop)).await;
    session.order(7, 3, 7, ping(1)).await;
    assert_eq!(session.says(pong).await, 1);
    let expected = [format!("start {id}"), format!("stop {id} stop")];
    eventually("the stop is carried out", || strings.agent.script().told.len() == 2).await;
    assert_eq!(strings.agent.script().told, expected);
}

#[tokio::test]
async fn an_order_that_is_missing_ends_the_session_and_epochs_outlive_it() {
    let mut strings = Strings::attach().await;
    let mut session = strings.session().await;
    session.order(1, 5, 9, ping(1)).await;
    session.order(2, 5, 9, start(&InjectionId::generate())).await;
    session.order(4, 5, 9, ping(2)).await;
    assert_eq!(session.refused().await, (4, Why::OrderMissing));
    let mut session = strings.session().await;
    session.order(1, 4, 9, start(&InjectionId::generate())).await;
    assert_eq!(session.refused().await, (1, Why::StaleHaltEpoch));
    session.order(2, 5, 8, start(&InjectionId::generate())).await;
    assert_eq!(session.refused().await, (2, Why::StaleStoreEpoch));
    eventually("one start", || strings.agent.script().told.len() == 1).await;
}

#[tokio::test]
async fn a_ping_is_answered_and_heartbeats_go_on_while_the_warden_is_busy() {
    let mut strings = Strings::attach().await;
    let mut session = strings.session().await;
    let welcome = v1::Welcome {
        host: "web".into(),
        heartbeat_ms: 100,
        ..v1::Welcome::default()
    };
    session.order(1, 0, 0, Order::Welcome(welcome)).await;
    strings.agent.script().deaf = true;
    session.order(2, 0, 0, ping(1)).await;
    assert_eq!(session.says(pong).await, 1);
    for _ in 0..5 {
        session.says(|body| matches!(body, Body::Heartbeat(_)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_halt_and_a_stop_are_carried_out_even_when_the_warden_had_no_room_for_them() {
    let mut strings = Strings::attach().await;
    let mut session = strings.session().await;
    strings.agent.script().stuck = true;
    let lease = || {
        Order::Lease(v1::Lease {
            injections: Vec::new(),
            lease_ms: 1,
        })
    };
    let mut seq = 0;
    // One is in the warden's hands, and its queue is full behind it.
    while seq < agent_warden::QUEUE as u64 + 8 {
        seq += 1;
        session.order(seq, 0, 0, lease()).await;
    }
    assert_eq!(session.refused().await.1, Why::Busy);
    let id = InjectionId::generate();
    let stop = v1::Stop {
        injection: id.to_string(),
        cause: v1::EndedBy::Stop.into(),
    };
    session.order(seq + 1, 0, 0, Order::Stop(stop)).await;
    session.order(seq + 2, 1, 0, Order::Halt(v1::Halt { reason: "smoke".into() })).await;
    // Answered after both were read.
    session.order(seq + 3, 1, 0, ping(1)).await;
    assert_eq!(session.says(pong).await, 1);
    strings.agent.script().stuck = false;
    let halt = |body| match body {
        Body::Halt(answer) => Some((answer.epoch, answer.halted)),
        _ => None,
    };
    assert_eq!(session.says(halt).await, (1, true));
    eventually("the stop is carried out too", || strings.agent.was_told(&format!("stop {id} stop"))).await;
}

#[tokio::test]
async fn a_halt_that_undoes_for_longer_than_other_answers_may_take_is_still_answered() {
    let mut strings = Strings::attach().await;
    let mut session = strings.session().await;
    strings.agent.script().stuck = true;
    session.order(1, 1, 0, Order::Halt(v1::Halt { reason: "smoke".into() })).await;
    let halt = |body| match body {
        Body::Halt(answer) => Some((answer.epoch, answer.halted)),
        _ => None,
    };
    let longer = agent_warden::ANSWER_WITHIN + Duration::from_secs(1);
    let early = async {
        loop {
            let message = session.said.message().await.unwrap().expect("the session is up");
            if message.body.and_then(halt).is_some() {
                return;
            }
        }
    };
    assert!(tokio::time::timeout(longer, early).await.is_err(), "answered before it was done");
    strings.agent.script().stuck = false;
    assert_eq!(session.says(halt).await, (1, true));
}
