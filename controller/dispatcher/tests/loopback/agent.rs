//! An agent whose warden is a script: it writes down what it was told to do, and reports as a warden would. And a bare agent, driven by hand.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};

use agent_session::{EnrolError, EnrolOptions, Enrolled, IdentityFolder, SessionOptions, enrol, run};
use agent_warden::{AgentStatus, Command, HaltAnswer, HaltLatch, Halted, InventoryItem, QUEUE, WardenHandle};
use proto_model::catalogue::Catalogue;
use proto_model::host::HostFacts;
use proto_model::id::InjectionId;
use proto_model::injection::{
    AgentFact, AgentReport, Applied, CleanProof, Cleanliness, EndedBy, InjectionState, PreflightAnswer, UndoAnswer, Undone,
};
use proto_model::time::Timestamp;
use proto_transport::{ClientIdentity, JoinToken, Trust, connect};
use proto_wire::v1::agent_message::Body;
use proto_wire::v1::agents_client::AgentsClient;
use proto_wire::v1::{AgentMessage, ControllerMessage, Hello};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::controller::{identity, now};

/// What the scripted warden was told and what it still owes.
#[derive(Default)]
pub struct Script {
    /// In words: `start ID`, `stop ID cause`, `renew 15000`, `halt 3`, ...
    pub told: Vec<String>,
    pub owed: Vec<AgentReport>,
    pub active: Vec<InjectionId>,
    pub halted: Option<(u64, String)>,
    pub halt_epoch: u64,
    /// Questions stay without answers.
    pub deaf: bool,
    /// Takes nothing from its queue, as in the midst of a long undo.
    pub stuck: bool,
    pub controllers: Vec<SocketAddr>,
}

pub type Told = Arc<Mutex<Script>>;

pub struct Agent {
    pub script: Told,
    task: tokio::task::JoinHandle<()>,
}

pub async fn join(dir: &Path, controller: SocketAddr, token: &JoinToken, host: &str) -> Result<Enrolled, EnrolError> {
    enrol(EnrolOptions {
        controller: controller.to_string(),
        token: token.clone(),
        identity: IdentityFolder::at(dir.join("identity")),
        name: host.to_owned(),
        machine_id: "m".into(),
        agent_version: "1".into(),
    })
    .await
}

impl Agent {
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, Told::default())
    }

    pub fn start_with(dir: &Path, script: Told) -> Self {
        Self::start_at(dir, script, now, HostFacts::default)
    }

    /// An agent whose host has this wall clock and these facts.
    pub fn start_at(dir: &Path, script: Told, clock: fn() -> Timestamp, facts: fn() -> HostFacts) -> Self {
        let (commands, inbox) = sync_channel(QUEUE);
        let (reports, told) = mpsc::channel(64);
        let own = script.clone();
        std::thread::spawn(move || play(&own, &inbox, &reports));
        let options = SessionOptions {
            identity: IdentityFolder::at(dir.join("identity")),
            agent_version: "1".into(),
            catalogue: Catalogue::default,
            facts: Box::new(move || HostFacts {
                kernel: "6.1".into(),
                ..facts()
            }),
            addresses: Box::new(move || facts().addresses),
            probe_rules: agent_probes::HostRules::of(agent_probes::Commands::none(), Vec::new(), Vec::new()),
            clock,
        };
        let task = tokio::spawn(run(options, WardenHandle::new(commands), told));
        Self { script, task }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub fn was_told(&self, what: &str) -> bool {
        self.script().told.iter().any(|told| told == what)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn play(script: &Told, inbox: &Receiver<Command>, reports: &mpsc::Sender<AgentReport>) {
    while let Ok(command) = inbox.recv() {
        while script.lock().unwrap().stuck {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let mut script = script.lock().unwrap();
        if script.deaf {
            script.told.push("unheard".into());
            continue;
        }
        if let Some(report) = script.act(command) {
            drop(reports.try_send(report));
        }
    }
}

impl Script {
    fn act(&mut self, command: Command) -> Option<AgentReport> {
        match command {
            Command::Start(order, reply) => {
                self.told.push(format!("start {}", order.injection));
                self.active.push(order.injection.clone());
                reply(());
                return Some(self.owes(&order.injection, order.run.as_str(), applied()));
            }
            Command::Stop(id, cause, reply) => {
                self.told.push(format!("stop {id} {}", cause.as_str()));
                self.active.retain(|active| active != &id);
                reply(Ok(UndoAnswer::UndoneNow));
                let run = self
                    .owed
                    .iter()
                    .find(|r| r.injection == id)
                    .map(|r| r.run.clone())
                    .unwrap_or_default();
                return Some(self.owes(&id, &run, undone(cause)));
            }
            Command::Renew(ids, lease_ms) => self.told.push(format!("renew {} {lease_ms}", ids.len())),
            Command::Preflight(wishes, reply) => {
                self.told.push(format!("preflight {}", wishes.len()));
                reply(wishes.iter().map(|_| accepted()).collect());
            }
            Command::Verify(ids, reply) => {
                self.told.push(format!("verify {}", ids.len()));
                reply(CleanProof::of(vec![], vec![], vec![], vec![], "boot-1"));
            }
            Command::Halt { epoch, reason, reply } => {
                self.told.push(format!("halt {epoch}"));
                (self.halted, self.halt_epoch) = (Some((epoch, reason)), epoch);
                let undone = u32::try_from(self.active.drain(..).count()).unwrap();
                reply(HaltAnswer { undone, failed: 0 });
            }
            Command::Release { epoch } => {
                self.told.push(format!("release {epoch}"));
                (self.halted, self.halt_epoch) = (None, epoch);
            }
            Command::Settle(ids) => {
                self.told.push(format!("settle {}", ids.len()));
                self.owed.retain(|report| !ids.contains(&report.injection));
            }
            Command::Inventory(reply) => reply(self.inventory()),
            Command::Unsettled(reply) => reply(self.owed.clone()),
            Command::Status(reply) => reply(self.status()),
            Command::Controllers(addresses) => self.controllers = addresses,
            Command::Accept { by, reason } => self.told.push(format!("accept {by} {reason}")),
            _ => {}
        }
        None
    }

    fn owes(&mut self, injection: &InjectionId, run: &str, fact: AgentFact) -> AgentReport {
        let agent_seq = 1 + self.owed.iter().filter(|r| &r.injection == injection).count() as u64;
        let report = AgentReport {
            injection: injection.clone(),
            run: run.to_owned(),
            agent_seq,
            boot_id: "boot-1".into(),
            boot_ms: 1,
            fact,
        };
        self.owed.push(report.clone());
        report
    }

    fn inventory(&self) -> Vec<InventoryItem> {
        let active = self.active.iter().map(|id| item(id, InjectionState::Holding, false));
        let ended = self.owed.iter().filter(|r| r.fact.is_terminal());
        active
            .chain(ended.map(|r| item(&r.injection, InjectionState::Undone, true)))
            .collect()
    }

    fn status(&self) -> AgentStatus {
        AgentStatus {
            cleanliness: if self.active.is_empty() {
                Cleanliness::Clean
            } else {
                Cleanliness::Faulted
            },
            residue: vec![],
            halted: self.halted.clone().map(|(_, reason)| Halted {
                latch: HaltLatch::Controller,
                reason,
            }),
            halt_epoch: self.halt_epoch,
            active: vec![],
            unsettled: u32::try_from(self.owed.iter().filter(|r| r.fact.is_terminal()).count()).unwrap(),
            guarded: true,
            boot_id: "boot-1".into(),
            boot_ms: 1,
        }
    }
}

fn item(injection: &InjectionId, state: InjectionState, finished: bool) -> InventoryItem {
    InventoryItem {
        injection: injection.clone(),
        run: "r".into(),
        state,
        finished,
    }
}

fn accepted() -> PreflightAnswer {
    PreflightAnswer {
        accepted: true,
        refusals: vec![],
        warnings: vec![],
        undo: vec![],
        touches: vec![],
        engine: None,
    }
}

fn applied() -> AgentFact {
    AgentFact::Applied(Applied {
        effect: serde_json::Value::Null,
        engine: None,
        apply_ms: 1,
        deadline_boot_ms: 9,
        noop: false,
    })
}

fn undone(ended_by: EndedBy) -> AgentFact {
    AgentFact::Undone(Undone {
        ended_by,
        undone_by: "agent".into(),
        undo_ms: 1,
        answer: UndoAnswer::UndoneNow,
        drift: vec![],
    })
}

/// A session without an agent behind it: says what it is told to say, and shows what it hears.
pub struct Bare {
    pub out: mpsc::Sender<AgentMessage>,
    pub orders: Streaming<ControllerMessage>,
    seq: u64,
}

pub fn hello(instance: &str, nonce: &str) -> Hello {
    Hello {
        nonce: nonce.into(),
        instance: instance.into(),
        boot_id: format!("boot-of-{instance}"),
        facts: Some(proto_wire::v1::HostFacts::default()),
        catalogue_json: "[]".into(),
        catalogue_digest: Catalogue::default().digest(),
        cleanliness: proto_wire::v1::Cleanliness::Clean.into(),
        ..Hello::default()
    }
}

pub fn client_identity(dir: &Path) -> ClientIdentity {
    let file = |name: &str| -> PathBuf { identity(dir).join(name) };
    ClientIdentity {
        certificate: CertificateDer::from_pem_file(file("cert.pem")).unwrap(),
        key_pem: std::fs::read_to_string(file("key.pem")).unwrap(),
    }
}

pub async fn client(dir: &Path, controller: SocketAddr) -> AgentsClient<tonic::transport::Channel> {
    let authority = CertificateDer::from_pem_file(identity(dir).join("authority.pem")).unwrap();
    let trust = Trust::Authorities(vec![authority]);
    let channel = connect(&controller.to_string(), trust, Some(&client_identity(dir))).await.unwrap();
    AgentsClient::new(channel)
}

impl Bare {
    pub async fn dial(dir: &Path, controller: SocketAddr, hello: Hello) -> Result<Self, Status> {
        let (out, stream) = mpsc::channel(16);
        let first = AgentMessage {
            seq: 1,
            body: Some(Body::Hello(hello)),
        };
        out.send(first).await.unwrap();
        let orders = client(dir, controller)
            .await
            .session(ReceiverStream::new(stream))
            .await?
            .into_inner();
        Ok(Self { out, orders, seq: 1 })
    }

    pub async fn say(&mut self, body: Body) {
        self.seq += 1;
        let message = AgentMessage {
            seq: self.seq,
            body: Some(body),
        };
        self.out.send(message).await.unwrap();
    }

    /// The next order, within 10 s.
    pub async fn order(&mut self) -> Result<Option<ControllerMessage>, Status> {
        let order = tokio::time::timeout(std::time::Duration::from_secs(10), self.orders.message()).await;
        order.expect("an order or an end within 10 s")
    }
}
