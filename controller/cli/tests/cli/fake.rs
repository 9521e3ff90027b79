//! A controller that answers as its script says and remembers what it was asked; it plans and judges nothing.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use proto_model::document::{ERROR_METADATA, ErrorBody, ErrorDocument};
use proto_wire::v1::emergency_server::{Emergency, EmergencyServer};
use proto_wire::v1::experiments_server::{Experiments, ExperimentsServer};
use proto_wire::v1::faults_server::{Faults, FaultsServer};
use proto_wire::v1::freezes_server::FreezesServer;
use proto_wire::v1::hosts_server::{Hosts, HostsServer};
use proto_wire::v1::runs_server::{Runs, RunsServer};
use proto_wire::v1::schedules_server::SchedulesServer;
use proto_wire::v1::tokens_server::{Tokens, TokensServer};
use proto_wire::v1::*;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream, UnixListenerStream};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, async_trait};

pub const RUN: &str = "0123456789abcdef";
pub const INJECTION: &str = "aaaaaaaaaaaaaaaa";

/// What the controller will say.
pub struct Script {
    /// Every call fails with this.
    pub error: Option<ErrorBody>,
    /// The controller's time for an answer is over before a run's start or a lock is answered.
    pub out_of_time: bool,
    /// Only planning fails with this.
    pub plan_error: Option<ErrorBody>,
    /// No report can be had.
    pub report_error: Option<ErrorBody>,
    pub plan: Value,
    /// The run as it is shown once finished.
    pub run: Value,
    pub events: Vec<Value>,
    /// After so many events a watch ends although the run goes on; once.
    pub break_after: Option<usize>,
    /// The run ends only when it is stopped.
    pub endless: bool,
    /// A stop never leads to the end.
    pub stuck: bool,
    pub hosts: Vec<Value>,
    pub faults: Vec<Value>,
    pub tokens: Vec<Value>,
    pub status: Value,
    pub halt: HaltReply,
    pub seen: Vec<Seen>,
    pub stopped: bool,
}

/// What the controller was asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Plan(PlanRequest),
    Run(RunRequest),
    Watch(WatchRequest),
    Stop(StopRequest),
    Label(LabelRequest),
    Cordon(CordonRequest),
    Lock(LockRequest),
    Remove(RemoveHostRequest),
    Token(TokenCreateRequest),
    Halt(HaltRequest),
    ScheduleAdd(ScheduleAddRequest),
    FreezeAdd(FreezeAddRequest),
    FreezesImport(FreezesImportRequest),
    Release(ReleaseRequest),
}

#[derive(Clone)]
pub struct Fake {
    script: Arc<Mutex<Script>>,
    change: Arc<Notify>,
}

pub struct Started {
    pub folder: tempfile::TempDir,
    pub fake: Fake,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Started {
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn fracas(&self, arguments: &[&str]) -> crate::tool::Said {
        crate::tool::fracas(self.path(), arguments)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.fake.script().seen.clone()
    }

    pub fn was_stopped(&self) -> bool {
        self.seen().iter().any(|seen| matches!(seen, Seen::Stop(_)))
    }

    pub fn is_watched(&self) -> bool {
        self.seen().iter().any(|seen| matches!(seen, Seen::Watch(_)))
    }
}

/// A controller on a socket in a folder of its own, until the value is dropped.
pub fn start(script: Script) -> Started {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake {
        script: Arc::new(Mutex::new(script)),
        change: Arc::new(Notify::new()),
    };
    let (end, ended) = tokio::sync::oneshot::channel();
    let (served, path) = (fake.clone(), folder.path().join("controller.sock"));
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = UnixListener::bind(path).unwrap();
            ready.send(()).unwrap();
            let serve = served.serve(listener);
            tokio::select! { () = serve => {}, _ = ended => {} }
        });
    });
    is_ready.recv().unwrap();
    Started { folder, fake, _end: end }
}

impl Fake {
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    async fn serve(self, listener: UnixListener) {
        let server = tonic::transport::Server::builder()
            .add_service(ExperimentsServer::new(self.clone()))
            .add_service(RunsServer::new(self.clone()))
            .add_service(HostsServer::new(self.clone()))
            .add_service(FaultsServer::new(self.clone()))
            .add_service(TokensServer::new(self.clone()))
            .add_service(SchedulesServer::new(self.clone()))
            .add_service(FreezesServer::new(self.clone()))
            .add_service(EmergencyServer::new(self));
        server.serve_with_incoming(UnixListenerStream::new(listener)).await.unwrap();
    }

    /// The status alone, over TLS, for whoever brings the token.
    pub async fn serve_tls(self, listener: tokio::net::TcpListener, identity: Identity, token: &'static str) {
        let check = move |request: Request<()>| match request.metadata().get("authorization") {
            Some(value) if value == token => Ok(request),
            _ => Err(refusal(&ErrorBody::new("not_authenticated", "who are you?"))),
        };
        let tls = ServerTlsConfig::new().identity(identity);
        let server = tonic::transport::Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(EmergencyServer::with_interceptor(self, check));
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    }

    /// Remembers the question, and fails when the script says so.
    pub fn hear(&self, seen: Option<Seen>) -> Result<MutexGuard<'_, Script>, Status> {
        let mut script = self.script();
        script.seen.extend(seen);
        match &script.error {
            Some(error) => Err(refusal(error)),
            None => Ok(script),
        }
    }
}

pub fn refusal(error: &ErrorBody) -> Status {
    let document = serde_json::to_vec(&ErrorDocument { error: error.clone() }).unwrap();
    let mut metadata = MetadataMap::new();
    metadata.insert_bin(ERROR_METADATA, MetadataValue::from_bytes(&document));
    Status::with_metadata(Code::FailedPrecondition, &error.message, metadata)
}

pub fn document(value: &Value) -> Result<Response<Document>, Status> {
    Ok(Response::new(Document { json: value.to_string() }))
}

pub fn documents(values: &[Value]) -> Result<Response<Documents>, Status> {
    Ok(Response::new(Documents {
        items: values.iter().map(Value::to_string).collect(),
    }))
}

fn named(values: &[Value], name: &str) -> Result<Response<Document>, Status> {
    match values.iter().find(|value| value["name"] == name) {
        Some(value) => document(value),
        None => Err(refusal(&ErrorBody::new("not_found", format!("no host named {name:?}")))),
    }
}

#[async_trait]
impl Experiments for Fake {
    async fn plan(&self, request: Request<PlanRequest>) -> Result<Response<PlanReply>, Status> {
        let script = self.hear(Some(Seen::Plan(request.into_inner())))?;
        if let Some(error) = &script.plan_error {
            return Err(refusal(error));
        }
        Ok(Response::new(PlanReply {
            plan_json: script.plan.to_string(),
        }))
    }

    async fn run(&self, request: Request<RunRequest>) -> Result<Response<RunReply>, Status> {
        let script = self.hear(Some(Seen::Run(request.into_inner())))?;
        script.in_time()?;
        Ok(Response::new(RunReply {
            run: RUN.into(),
            plan_json: script.plan.to_string(),
        }))
    }
}

impl Script {
    /// As the server's own limit says it: without a document.
    fn in_time(&self) -> Result<(), Status> {
        match self.out_of_time {
            true => Err(Status::cancelled("Timeout expired")),
            false => Ok(()),
        }
    }

    fn shown(&self) -> Value {
        let mut run = self.run.clone();
        if self.endless && !self.stopped {
            run["state"] = json!("during");
            run["verdict"] = Value::Null;
        } else if self.stopped {
            (run["verdict"], run["exit_code"]) = (json!("aborted"), json!(7));
        }
        run
    }
}

#[async_trait]
impl Runs for Fake {
    type WatchStream = ReceiverStream<Result<Document, Status>>;

    async fn list(&self, _: Request<RunsListRequest>) -> Result<Response<Documents>, Status> {
        let mut run = self.hear(None)?.shown();
        for figure in ["hosts_total", "injections_total"] {
            run[figure] = json!(1);
        }
        (run["hosts_unclean"], run["reason"]) = (json!(0), Value::Null);
        documents(&[run])
    }

    async fn show(&self, _: Request<RunRef>) -> Result<Response<Document>, Status> {
        let mut script = self.hear(None)?;
        let mut run = script.shown();
        if script.break_after.take().is_some() {
            run["state"] = json!("during");
        }
        document(&run)
    }

    async fn events(&self, _: Request<RunRef>) -> Result<Response<Documents>, Status> {
        documents(&self.hear(None)?.events)
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let from = usize::try_from(request.from_seq.saturating_sub(1)).unwrap();
        let (events, endless) = {
            let script = self.hear(Some(Seen::Watch(request)))?;
            let end = script.break_after.unwrap_or(script.events.len());
            (script.events[from.min(end)..end].to_vec(), script.endless)
        };
        let (sender, receiver) = mpsc::channel(64);
        let fake = self.clone();
        tokio::spawn(async move {
            for event in events {
                let _ = sender.send(Ok(Document { json: event.to_string() })).await;
            }
            while endless && !fake.script().stopped {
                tokio::select! { () = fake.change.notified() => {}, () = sender.closed() => return }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        let format = request.into_inner().format;
        if let Some(error) = &self.hear(None)?.report_error {
            return Err(refusal(error));
        }
        Ok(Response::new(ReportReply {
            text: format!("a report as {format}\n"),
            media_type: "text/plain".into(),
            path: format!("/var/lib/fracas/controller/reports/{RUN}.md"),
        }))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        let mut script = self.hear(Some(Seen::Stop(request.into_inner())))?;
        script.stopped = !script.stuck;
        self.change.notify_waiters();
        Ok(Response::new(StopReply {
            run: RUN.into(),
            answer: "undone_now".into(),
            undone: 1,
        }))
    }
}

#[async_trait]
impl Hosts for Fake {
    async fn list(&self, _: Request<HostsListRequest>) -> Result<Response<Documents>, Status> {
        documents(&self.hear(None)?.hosts)
    }
    async fn show(&self, request: Request<HostRef>) -> Result<Response<Document>, Status> {
        named(&self.hear(None)?.hosts, &request.into_inner().host)
    }
    async fn label(&self, request: Request<LabelRequest>) -> Result<Response<Document>, Status> {
        let request = request.into_inner();
        named(&self.hear(Some(Seen::Label(request.clone())))?.hosts, &request.host)
    }
    async fn cordon(&self, request: Request<CordonRequest>) -> Result<Response<Document>, Status> {
        let request = request.into_inner();
        named(&self.hear(Some(Seen::Cordon(request.clone())))?.hosts, &request.host)
    }
    async fn verify(&self, request: Request<HostRef>) -> Result<Response<Document>, Status> {
        named(&self.hear(None)?.hosts, &request.into_inner().host)
    }
    async fn doctor(&self, request: Request<HostRef>) -> Result<Response<Documents>, Status> {
        drop(self.hear(None)?);
        let told = |host: &str, can: &str, why: Value| {
            json!({"host": host, "can": can, "why": why, "os": "", "kernel": "", "checks": [], "kinds": []}).to_string()
        };
        let lost = request
            .into_inner()
            .host
            .is_empty()
            .then(|| told("db", "not_evaluated", json!("db is lost")));
        let items = [told("web", "yes", Value::Null)].into_iter().chain(lost).collect();
        Ok(Response::new(Documents { items }))
    }
    async fn accept(&self, request: Request<AcceptRequest>) -> Result<Response<Document>, Status> {
        named(&self.hear(None)?.hosts, &request.into_inner().host)
    }
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<Document>, Status> {
        let host = request.get_ref().host.clone();
        let script = self.hear(Some(Seen::Lock(request.into_inner())))?;
        script.in_time()?;
        named(&script.hosts, &host)
    }
    async fn remove(&self, request: Request<RemoveHostRequest>) -> Result<Response<Document>, Status> {
        let host = request.get_ref().host.clone();
        named(&self.hear(Some(Seen::Remove(request.into_inner())))?.hosts, &host)
    }
}

#[async_trait]
impl Faults for Fake {
    async fn list(&self, _: Request<FaultsListRequest>) -> Result<Response<Documents>, Status> {
        // The catalogue answers even where the rest of the script refuses.
        documents(&self.script().faults)
    }
}

#[async_trait]
impl Tokens for Fake {
    async fn create(&self, request: Request<TokenCreateRequest>) -> Result<Response<TokenCreateReply>, Status> {
        let script = self.hear(Some(Seen::Token(request.into_inner())))?;
        Ok(Response::new(TokenCreateReply {
            token: "fjt1.id.secret.print".into(),
            document_json: script.tokens[0].to_string(),
        }))
    }
    async fn list(&self, _: Request<TokensListRequest>) -> Result<Response<Documents>, Status> {
        documents(&self.hear(None)?.tokens)
    }
    async fn revoke(&self, _: Request<TokenRef>) -> Result<Response<Document>, Status> {
        document(&self.hear(None)?.tokens[0])
    }
}

#[async_trait]
impl Emergency for Fake {
    async fn halt(&self, request: Request<HaltRequest>) -> Result<Response<HaltReply>, Status> {
        Ok(Response::new(self.hear(Some(Seen::Halt(request.into_inner())))?.halt.clone()))
    }
    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<HaltReply>, Status> {
        Ok(Response::new(self.hear(Some(Seen::Release(request.into_inner())))?.halt.clone()))
    }
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<Document>, Status> {
        document(&self.hear(None)?.status)
    }
}

/// A time so long ago, as the documents write it.
pub fn ago(seconds: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    proto_model::time::Timestamp(i64::try_from(now.as_millis()).unwrap() - seconds * 1000).to_string()
}

impl Default for Script {
    fn default() -> Self {
        let host = |name: &str, role: &str, connection: &str, cleanliness: &str| {
            json!({"apiVersion": "fracas/v1", "kind": "Host", "name": name, "labels": {"env": "staging", "role": role}, "connection": connection,
                "facts": {"hostname": name, "machine_id": "m", "boot_id": "b", "kernel": "6.1", "os": "Debian GNU/Linux 12", "architecture": "x86_64",
                    "cpus": 2, "memory_bytes": 1_073_741_824_u64, "addresses": ["10.0.0.5"], "cgroups": "v2", "agent_version": "0.1.0",
                    "service_manager": "systemd"},
                "cleanliness": cleanliness, "availability": "open", "membership": "enrolled", "note": null, "catalogue_digest": "c",
                "active_injections": 0, "enrolled_at": ago(330), "last_seen": ago(1), "certificate_not_after": null, "source_address": null})
        };
        Self {
            error: None,
            out_of_time: false,
            plan_error: None,
            report_error: None,
            plan: plan(true),
            run: run(),
            events: events(),
            break_after: None,
            endless: false,
            stuck: false,
            hosts: vec![host("web", "web", "connected", "clean"), host("cache-1", "cache", "lost", "dirty")],
            faults: vec![
                json!({"kind": "network.partition", "summary": "cuts peers off", "aliases": ["blackhole"], "reversal": {"kind": "full"},
                "duration": "required", "params": {"type": "object", "required": ["to"], "properties": {
                    "to": {"type": "array", "items": {"type": "string"}, "description": "Whom to cut off"}}},
                "examples": [{"says": "Cut the cache off", "params": {"to": ["role=cache"]}}], "measured_by": "counters",
                "undone_by": "removing our rules", "hosts": 2}),
            ],
            tokens: vec![
                json!({"id": "bbbbbbbbbbbbbbbb", "labels": {"env": "staging"}, "uses": 10, "used": 1, "created_at": ago(330),
                "expires_at": ago(-3600), "revoked": false, "created_by": "root@local"}),
            ],
            status: json!({"version": "0.1.0", "hosts_connected": 3, "hosts_lost": 0, "hosts_dirty": 1, "runs_active": 1, "injections_active": 2,
                "caller": "root@local", "now": ago(0), "halt": {"epoch": 3, "engaged": true, "by": "root@local", "reason": "drill", "at": ago(330)}}),
            halt: HaltReply {
                epoch: 3,
                engaged: true,
                hosts_told: 3,
                hosts_answered: 3,
                silent: vec![],
                undone: 5,
                took_ms: 120,
            },
            seen: vec![],
            stopped: false,
        }
    }
}

pub fn plan(accepted: bool) -> Value {
    let refusals = if accepted {
        json!([])
    } else {
        json!([{"code": "policy", "path": "duration", "message": "too long", "allowed": "1s..15m"}])
    };
    json!({"apiVersion": "fracas/v1", "kind": "Plan", "digest": "sha256:ab", "created_at": ago(0), "expires_at": ago(-3600), "accepted": accepted,
        "plan": {"name": "burn", "origin": "attack", "service": null, "environment": "staging", "hypothesis": null, "guards": [], "limits": {},
            "steps": [{"path": "steps[0]", "body": {"fault": {"fault": "cpu.burn", "params": {"percent": 60}, "duration_ms": 20000,
                "reversal": {"kind": "full"}, "injections": [{"host": "web", "seed": 1}], "matched": 1}}}],
            "hosts": [{"name": "web", "boot_id": "", "catalogue_digest": "", "labels": {}, "source_address": null}],
            "seed": 7, "notes": ["1 of 3 hosts"], "source": ""},
        "answers": [{"step": "steps[0]", "host": "web", "answer": {"accepted": accepted, "refusals": refusals}}]})
}

pub fn run() -> Value {
    json!({"apiVersion": "fracas/v1", "kind": "Run", "id": RUN, "name": "burn", "origin": "attack", "service": null, "environment": "staging",
        "state": "finished", "verdict": "inconclusive", "exit_code": 0, "ended_by": "completed", "cleanup": "proven",
        "reasons": [{"code": "no_hypothesis", "message": "nothing was asked of the system"}], "plan": {"digest": "sha256:ab", "seed": 7},
        "by": "root@local", "created_at": ago(330), "started_at": ago(329), "finished_at": ago(300),
        "steps": [{"path": "steps[0]", "title": "cpu.burn on web", "state": "done"}],
        "injections": [{"id": INJECTION, "step": "steps[0]", "host": "web", "fault": "cpu.burn", "params": {"percent": 60}, "state": "undone",
            "ordered_at": null, "applied_at": null, "ended_at": null, "ended_by": "duration_elapsed", "undo_ms": 41, "error": null,
            "effect": {"state": "confirmed", "asked": 60.0, "measured": 59.4, "unit": "percent", "noop": false, "note": null}}],
        "hosts": [{"name": "web", "cleanliness": "clean", "residue": [], "drift": [], "consequences": []}],
        "probes": [], "detection_ms": null, "recovery_ms": null})
}

fn events() -> Vec<Value> {
    let event = |seq: u64, body: Value| {
        let mut event = json!({"run_id": RUN, "seq": seq, "version": 1, "at": format!("2026-01-01T00:00:0{seq}.000Z"), "by": "root@local"});
        event.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        event
    };
    vec![
        event(1, json!({"type": "run.phase", "from": "accepted", "to": "preflight"})),
        event(2, json!({"type": "run.phase", "from": "preflight", "to": "during"})),
        event(3, json!({"type": "surprise.of.a.newer.controller"})),
        event(4, json!({"type": "run.phase", "from": "during", "to": "finished"})),
    ]
}
