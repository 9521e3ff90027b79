//! The agent's end: serves one session process after another, hands requests to the warden, and outlives each of them.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent_view::Resolver;
use agent_warden::{Command, Reply, WardenError, WardenHandle};
use proto_model::injection::{AgentReport, PreflightAnswer, Wish};
use serde::Serialize;

use crate::frame::{self, MAX_REQUEST};
use crate::message::{Message, Setup};
use crate::patience::Patience;
use crate::program::{ProgramEnd, ProgramOrder};
use crate::request::{BadRequest, Numbered, Request};

/// Orders with parameters that the warden may have at once; a controller sends them one after the other.
const ORDERS: usize = 64;
const USED_UP: &str = "names took too long to resolve in the last seconds, and the agent waits no longer: try again in 10 s, or give addresses instead of names";
/// Bytes that wait for the session.
const QUEUED_BYTES: usize = 64 << 20;
/// Messages that wait for the session; one more is dropped: reports come again from their journals, and who waits for an answer gives up.
const QUEUE: usize = 1_024;
/// A session says at least every 5 s that it lives; silent for so long, it is replaced.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a session may take to read what is sent.
const WRITES_WITHIN: Duration = Duration::from_secs(30);
/// How long a name may take to resolve: a little longer than the session waits for its own resolver.
const RESOLVE_WITHIN: Duration = Duration::from_millis(1_500);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const STACK_BYTES: usize = 128 * 1024;

/// How the agent runs a program for a session; it must not block.
pub type RunProgram = Arc<dyn Fn(ProgramOrder, Reply<Result<ProgramEnd, String>>) + Send + Sync>;

/// Why a session is served no more.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("the session process has ended")]
    Closed,
    #[error("the session process has said nothing for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the session process asked for what is not to be asked: {0}")]
    Bad(String),
    #[error("the socket to the session process: {0}")]
    Io(#[from] io::Error),
}

impl From<BadRequest> for End {
    fn from(error: BadRequest) -> Self {
        Self::Bad(error.to_string())
    }
}

/// What a name means, or why that is not known.
type Addresses = Result<Vec<IpAddr>, String>;

/// Clones share the session that is there now.
#[derive(Clone, Default)]
pub struct AgentSide(Arc<Shared>);

#[derive(Default)]
struct Shared {
    session: Mutex<Option<Out>>,
    /// Names that somebody waits for, by number.
    questions: Mutex<HashMap<u64, SyncSender<Addresses>>>,
    asked: AtomicU64,
    /// With the session's answers to names, for which the warden's thread waits.
    patience: Mutex<Patience>,
}

/// The way to one session, with what waits on it.
#[derive(Clone)]
struct Out {
    frames: SyncSender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
    /// Orders with parameters that the warden has not answered.
    orders: Arc<AtomicUsize>,
}

impl Out {
    /// False when it must be dropped.
    fn send(&self, message: &Message) -> bool {
        let frame = message.encode();
        let length = frame.len();
        if self.bytes.fetch_add(length, Ordering::Relaxed) + length <= QUEUED_BYTES && self.frames.try_send(frame).is_ok() {
            return true;
        }
        self.bytes.fetch_sub(length, Ordering::Relaxed);
        false
    }

    /// A place for one more order, given back when it is answered or forgotten.
    fn order(&self) -> Result<Order, End> {
        let until = Instant::now() + SILENCE;
        while self.orders.load(Ordering::Relaxed) >= ORDERS {
            if Instant::now() >= until {
                return Err(End::Bad(format!("more than {ORDERS} orders at once")));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        self.orders.fetch_add(1, Ordering::Relaxed);
        Ok(Order(self.orders.clone()))
    }
}

struct Order(Arc<AtomicUsize>);

impl Drop for Order {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AgentSide {
    /// Never blocks. What cannot be sent now is in its journal, and is sent when a session asks for what is unsettled.
    pub fn report(&self, report: AgentReport) {
        if !self.send(&Message::Report(Box::new(report))) {
            tracing::debug!("a report waits in its journal");
        }
    }

    /// The session sends what it has, and ends.
    pub fn leave(&self) {
        self.send(&Message::Leave);
    }

    fn send(&self, message: &Message) -> bool {
        let out = locked(&self.0.session).clone();
        out.is_some_and(|out| out.send(message))
    }

    /// Serves one session process until it ends, is silent, or asks for what is no request.
    pub fn serve(&self, stream: UnixStream, setup: Setup, warden: &WardenHandle, run: &RunProgram) -> End {
        let end = self.talk(&stream, setup, warden, run);
        *locked(&self.0.session) = None;
        // Whoever waits for a name learns that none comes.
        locked(&self.0.questions).clear();
        drop(stream.shutdown(Shutdown::Both));
        end.err().unwrap_or(End::Closed)
    }

    fn talk(&self, stream: &UnixStream, setup: Setup, warden: &WardenHandle, run: &RunProgram) -> Result<(), End> {
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(WRITES_WITHIN))?;
        let (frames, waiting) = sync_channel(QUEUE);
        let out = Out {
            frames,
            bytes: Arc::default(),
            orders: Arc::default(),
        };
        out.send(&Message::Setup(setup));
        *locked(&self.0.session) = Some(out.clone());
        let (writer, bytes) = (stream.try_clone()?, out.bytes.clone());
        let thread = std::thread::Builder::new().name("to session".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || write_all(writer, &waiting, &bytes))?;
        let mut reader = stream;
        loop {
            match frame::read(&mut reader, MAX_REQUEST) {
                Ok(Some(bytes)) => self.obey(Numbered::decode(&bytes)?, &out, warden, run)?,
                Ok(None) => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(End::Silent),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Hands a request on. While the warden has no room nothing more is read, so that the session learns that it is busy.
    fn obey(&self, asked: Numbered, out: &Out, warden: &WardenHandle, run: &RunProgram) -> Result<(), End> {
        let id = asked.id;
        let command = match asked.request {
            Request::Alive => return Ok(()),
            Request::Run(order) => {
                run(order, answer(id, out));
                return Ok(());
            }
            Request::Resolved { question, answer } => {
                if let Some(asker) = locked(&self.0.questions).remove(&question) {
                    drop(asker.try_send(answer));
                }
                return Ok(());
            }
            Request::Start(start) => {
                let place = out.order()?;
                Command::Start(start.try_into()?, Box::new(move |()| drop(place)))
            }
            Request::Stop { injection, cause } => {
                let reply: Reply<Result<_, String>> = answer(id, out);
                let reply = Box::new(move |stopped: Result<_, WardenError>| reply(stopped.map_err(|error| error.to_string())));
                Command::Stop(injection, cause, reply)
            }
            Request::Renew { injections, lease_ms } => Command::Renew(injections, lease_ms),
            Request::Preflight(frames) => {
                let place = out.order()?;
                let wishes = frames.into_iter().map(Wish::try_from).collect::<Result<_, _>>()?;
                let reply: Reply<Vec<PreflightAnswer>> = answer(id, out);
                let reply = Box::new(move |answers| {
                    drop(place);
                    reply(answers);
                });
                Command::Preflight(wishes, reply)
            }
            Request::Verify(ids) => Command::Verify(ids, answer(id, out)),
            Request::Halt { epoch, reason } => {
                let reply = answer(id, out);
                Command::Halt { epoch, reason, reply }
            }
            Request::Release { epoch } => Command::Release { epoch },
            Request::Settle(ids) => Command::Settle(ids),
            Request::Inventory => Command::Inventory(answer(id, out)),
            Request::Unsettled => Command::Unsettled(answer(id, out)),
            Request::Status => Command::Status(answer(id, out)),
            Request::Doctor => Command::Doctor(answer(id, out)),
            Request::Controllers(addresses) => Command::Controllers(addresses),
            Request::Accept { by, reason } => Command::Accept { by, reason },
        };
        // After its end nothing more is taken; what it said last is still on its way to the session.
        drop(warden.send_waiting(command));
        Ok(())
    }
}

/// Called on the warden's thread: it never waits for the session.
fn answer<T: Serialize + Send + 'static>(id: u64, out: &Out) -> Reply<T> {
    let out = out.clone();
    Box::new(move |body| {
        if !out.send(&Message::answer(id, &body)) {
            tracing::debug!(id, "an answer is dropped: the session does not read");
        }
    })
}

/// Until nobody sends any more, or the session is gone.
fn write_all(mut stream: UnixStream, frames: &Receiver<Vec<u8>>, bytes: &AtomicUsize) {
    for message in frames {
        let written = frame::write(&mut stream, &message);
        bytes.fetch_sub(message.len(), Ordering::Relaxed);
        if let Err(error) = written {
            tracing::debug!(%error, "the session cannot be written to");
            // Its end is then seen by who reads.
            drop(stream.shutdown(Shutdown::Both));
            return;
        }
    }
}

/// Names are resolved by the session: what comes from name servers is read without rights.
impl Resolver for AgentSide {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let begin = Instant::now();
        let Some(patience) = locked(&self.0.patience).allows(RESOLVE_WITHIN, begin) else {
            return Err(io::Error::new(ErrorKind::TimedOut, USED_UP));
        };
        let question = self.0.asked.fetch_add(1, Ordering::Relaxed);
        let (asker, answers) = sync_channel(1);
        locked(&self.0.questions).insert(question, asker);
        let sent = self.send(&Message::Resolve {
            question,
            name: name.to_owned(),
        });
        let answer = match sent {
            true => answers.recv_timeout(patience),
            false => Err(RecvTimeoutError::Disconnected),
        };
        locked(&self.0.questions).remove(&question);
        locked(&self.0.patience).spend(begin.elapsed(), Instant::now());
        match answer {
            Ok(answer) => answer.map_err(io::Error::other),
            Err(RecvTimeoutError::Timeout) => Err(io::Error::new(ErrorKind::TimedOut, "the session process does not answer")),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the agent's session process, which resolves names, does not run")),
        }
    }
}
