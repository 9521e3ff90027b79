//! A session's end: a warden to ask as if it were here, reports as they come, programs to run; every thread of it ends with the socket.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use agent_warden::{Command, QUEUE, Reply, WardenError, WardenHandle};
use proto_model::injection::AgentReport;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::frame::{self, MAX_MESSAGE};
use crate::message::{Message, Setup, body};
use crate::program::{ProgramEnd, ProgramOrder};
use crate::request::{BadRequest, MAX_ADDRESSES, MAX_TEXT, Numbered, Request};

/// Reports that wait for the session; one more is dropped and comes again from its journal.
const REPORTS: usize = 1_024;
/// Requests on their way out.
const REQUESTS: usize = 64;
/// Answers that the agent may owe.
const MAX_PENDING: usize = 4_096;
const STACK_BYTES: usize = 256 * 1024;

/// What a session has of its agent.
pub struct SessionSide {
    pub warden: WardenHandle,
    /// Closed when everything is undone and the session may leave.
    pub reports: mpsc::Receiver<AgentReport>,
    pub programs: Programs,
    pub ended: Ended,
}

/// Resolves when the agent is gone.
pub struct Ended(oneshot::Receiver<()>);

impl Ended {
    pub async fn wait(&mut self) {
        // Dropped or said: either way nobody is there.
        drop((&mut self.0).await);
    }
}

type Callback = Box<dyn FnOnce(Value) + Send>;

/// What the threads share.
#[derive(Clone)]
struct Link {
    requests: SyncSender<Vec<u8>>,
    pending: Arc<Mutex<HashMap<u64, Callback>>>,
    next: Arc<AtomicU64>,
}

impl SessionSide {
    /// Reads what the agent says first. The process still has its rights, and what it reads comes from its own parent.
    pub fn setup(stream: &UnixStream) -> io::Result<Setup> {
        let mut reader = stream;
        let bytes = frame::read(&mut reader, MAX_MESSAGE)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match Message::decode(&bytes)? {
            Message::Setup(setup) => Ok(setup),
            other => Err(io::Error::other(format!("the agent began with {other:?}"))),
        }
    }

    /// Serves the rest of the stream by threads of its own.
    pub fn open(stream: UnixStream) -> io::Result<Self> {
        let (requests, frames) = sync_channel(REQUESTS);
        let link = Link {
            requests,
            pending: Arc::default(),
            next: Arc::default(),
        };
        let (commands, to_relay) = sync_channel(QUEUE);
        let (reports, incoming) = mpsc::channel(REPORTS);
        let (gone, ended) = oneshot::channel();
        let writer = stream.try_clone()?;
        thread("to agent", move || write_all(writer, &frames))?;
        let relay = link.clone();
        thread("commands", move || to_relay.into_iter().for_each(|command| relay.command(command)))?;
        let reader = link.clone();
        thread("from agent", move || {
            reader.read_all(&stream, reports);
            drop(gone);
        })?;
        Ok(Self {
            warden: WardenHandle::new(commands),
            reports: incoming,
            programs: Programs(link),
            ended: Ended(ended),
        })
    }
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    builder.spawn(body).map(drop)
}

fn write_all(mut stream: UnixStream, frames: &Receiver<Vec<u8>>) {
    for bytes in frames {
        if let Err(error) = frame::write(&mut stream, &bytes) {
            tracing::debug!(%error, "the agent cannot be written to");
            return;
        }
    }
}

impl Link {
    fn frame(&self, request: Request) -> Result<(u64, Vec<u8>), BadRequest> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        Ok((id, Numbered { id, request }.encode()?))
    }

    /// Waits for room, so that the queue before it fills and says that it is busy.
    fn send(&self, request: Result<Request, BadRequest>, then: Option<Callback>) {
        let framed = request.and_then(|request| self.frame(request));
        let (id, bytes) = match framed {
            Ok(framed) => framed,
            Err(error) => {
                tracing::error!(%error, "an order cannot be handed to the agent");
                return;
            }
        };
        if let Some(then) = then
            && !self.expect(id, then)
        {
            tracing::error!("an order is not handed to the agent: it owes {MAX_PENDING} answers");
            return;
        }
        if self.requests.send(bytes).is_err() {
            self.forget(id);
        }
    }

    /// False when too many answers are owed; the caller of `then` learns that there is none.
    fn expect(&self, id: u64, then: Callback) -> bool {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() >= MAX_PENDING {
            return false;
        }
        pending.insert(id, then);
        true
    }

    fn forget(&self, id: u64) -> Option<Callback> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    fn command(&self, command: Command) {
        match command {
            Command::Start(order, reply) => {
                self.send(order.try_into().map(Request::Start), None);
                // What becomes of a start arrives as reports.
                reply(());
            }
            Command::Stop(injection, cause, reply) => {
                let answered: Reply<Result<_, String>> = Box::new(move |stopped| reply(stopped.map_err(WardenError::Refused)));
                self.send(Ok(Request::Stop { injection, cause }), Some(then(answered)));
            }
            Command::Renew(injections, lease_ms) => self.send(Ok(Request::Renew { injections, lease_ms }), None),
            Command::Preflight(wishes, reply) => {
                let frames = wishes.into_iter().map(TryInto::try_into).collect::<Result<_, _>>();
                self.send(frames.map(Request::Preflight), Some(then(reply)));
            }
            Command::Verify(ids, reply) => self.send(Ok(Request::Verify(ids)), Some(then(reply))),
            Command::Halt { epoch, reason, reply } => {
                let reason = cut(reason);
                self.send(Ok(Request::Halt { epoch, reason }), Some(then(reply)));
            }
            Command::Release { epoch } => self.send(Ok(Request::Release { epoch }), None),
            Command::Settle(ids) => self.send(Ok(Request::Settle(ids)), None),
            Command::Inventory(reply) => self.send(Ok(Request::Inventory), Some(then(reply))),
            Command::Unsettled(reply) => self.send(Ok(Request::Unsettled), Some(then(reply))),
            Command::Status(reply) => self.send(Ok(Request::Status), Some(then(reply))),
            Command::Doctor(reply) => self.send(Ok(Request::Doctor), Some(then(reply))),
            Command::Controllers(mut addresses) => {
                addresses.truncate(MAX_ADDRESSES);
                self.send(Ok(Request::Controllers(addresses)), None);
            }
            Command::Accept { by, reason } => {
                let (by, reason) = (cut(by), cut(reason));
                self.send(Ok(Request::Accept { by, reason }), None);
            }
            // These are asked on the host itself, never by a session.
            Command::LocalHalt { .. } | Command::LocalRelease(_) | Command::Shutdown(..) => {
                tracing::error!("a session asked for what only the host itself may ask");
            }
        }
    }

    fn read_all(&self, stream: &UnixStream, reports: mpsc::Sender<AgentReport>) {
        let mut reader = stream;
        let mut reports = Some(reports);
        loop {
            let message = match frame::read(&mut reader, MAX_MESSAGE) {
                Ok(Some(bytes)) => Message::decode(&bytes),
                Ok(None) => return,
                Err(error) => return tracing::error!(%error, "the agent cannot be heard"),
            };
            match message {
                Ok(Message::Answer { id, body }) => {
                    if let Some(then) = self.forget(id) {
                        then(body);
                    }
                }
                Ok(Message::Report(report)) => {
                    if reports.as_ref().is_some_and(|reports| reports.try_send(*report).is_err()) {
                        tracing::debug!("a report waits in its journal");
                    }
                }
                Ok(Message::Resolve { question, name }) => self.resolve(question, name),
                Ok(Message::Leave) => reports = None,
                Ok(Message::Setup(_)) => tracing::warn!("the agent said twice how to begin"),
                Err(error) => tracing::error!(%error, "a message of the agent cannot be read"),
            }
        }
    }

    /// Answers when the resolver does; the next message does not wait for it.
    fn resolve(&self, question: u64, name: String) {
        let link = self.clone();
        let resolving = thread("name", move || {
            let found = agent_view::resolve(&name).map_err(|error| error.to_string());
            let answer = found.map(|mut addresses| {
                addresses.truncate(MAX_ADDRESSES);
                addresses
            });
            link.send(Ok(Request::Resolved { question, answer }), None);
        });
        if let Err(error) = resolving {
            tracing::warn!(%error, "a name cannot be resolved");
        }
    }
}

/// What a person wrote is never a reason not to halt.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

fn then<T: DeserializeOwned + 'static>(reply: Reply<T>) -> Callback {
    Box::new(move |answer| {
        // One that cannot be read is none: who asked is not left with a wrong one.
        if let Some(answer) = body(answer) {
            reply(answer);
        }
    })
}

/// Programs that the host offers to probes, run by the agent.
#[derive(Clone)]
pub struct Programs(Link);

impl Programs {
    pub async fn run(&self, order: ProgramOrder) -> Result<ProgramEnd, String> {
        let (answer, answers) = oneshot::channel::<Result<ProgramEnd, String>>();
        let (id, bytes) = self.0.frame(Request::Run(order)).map_err(|error| error.to_string())?;
        let callback = then(Box::new(move |ended| drop(answer.send(ended))));
        if !self.0.expect(id, callback) || self.0.requests.try_send(bytes).is_err() {
            self.0.forget(id);
            return Err("the agent has too much to do".to_owned());
        }
        answers.await.unwrap_or_else(|_| Err("the agent does not answer".to_owned()))
    }

    /// Says that this session lives: to be called every few seconds by what would stop if it did not.
    pub fn alive(&self) {
        if let Ok((_, bytes)) = self.0.frame(Request::Alive) {
            // A full queue is as good a sign.
            drop(self.0.requests.try_send(bytes));
        }
    }
}
