//! One session's way out: two bounded queues, the urgent one first. Numbers are put on at the last moment; the halt epoch when an order is
//! made, so that what waited through a halt is never taken for an order of the time after it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proto_wire::v1::controller_message::Body;
use proto_wire::v1::{ControllerMessage, DoctorAnswer, PreflightAnswer, Start, VerifyAnswer};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

/// Orders that may wait for one host.
const QUEUE: usize = 256;

/// Starts remembered, so that a refusal finds its injection.
const STARTS: usize = 1_024;

/// An order as it was when it was made.
struct Order {
    body: Body,
    halt_epoch: u64,
}

/// The numbers under which starts left, and their injections and runs.
type Starts = Arc<Mutex<VecDeque<(u64, Start)>>>;

/// What a host answers to a numbered request.
pub(crate) enum Answer {
    Preflight(PreflightAnswer),
    Verify(VerifyAnswer),
    Doctor(DoctorAnswer),
}

/// The epochs every message carries.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    pub halt: AtomicU64,
    pub store: AtomicU64,
}

#[derive(Clone)]
pub(crate) struct Link {
    pub nonce: String,
    urgent: mpsc::Sender<Order>,
    normal: mpsc::Sender<Order>,
    epochs: Arc<Epochs>,
    starts: Starts,
    /// Why the session is over, once it is.
    over: Arc<watch::Sender<Option<Status>>>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>,
    next_request: Arc<AtomicU64>,
}

impl Link {
    /// A link, and the stream that the host reads.
    pub fn new(nonce: String, epochs: Arc<Epochs>) -> (Self, mpsc::Receiver<Result<ControllerMessage, Status>>) {
        let (urgent, urgent_rx) = mpsc::channel(QUEUE);
        let (normal, normal_rx) = mpsc::channel(QUEUE);
        let (out, stream) = mpsc::channel(16);
        let (over, is_over) = watch::channel(None);
        let starts = Starts::default();
        let writer = Writer {
            nonce: nonce.clone(),
            epochs: epochs.clone(),
            starts: starts.clone(),
            out,
        };
        tokio::spawn(writer.write(urgent_rx, normal_rx, is_over));
        (
            Self {
                nonce,
                urgent,
                normal,
                epochs,
                starts,
                over: Arc::new(over),
                waiting: Arc::default(),
                next_request: Arc::new(AtomicU64::new(1)),
            },
            stream,
        )
    }

    /// Queues an order; false when the session is over or too far behind.
    pub fn send(&self, body: Body) -> bool {
        self.normal.try_send(self.made_now(body)).is_ok()
    }

    /// Before everything that waits: stops and halts.
    pub fn send_first(&self, body: Body) -> bool {
        self.urgent.try_send(self.made_now(body)).is_ok()
    }

    fn made_now(&self, body: Body) -> Order {
        let halt_epoch = self.epochs.halt.load(Ordering::SeqCst);
        Order { body, halt_epoch }
    }

    /// Ends the session: the host reads why.
    pub fn end(&self, why: Status) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            if first {
                *over = Some(why);
            }
            first
        });
        self.hang_up();
    }

    /// Comes when the session was ended from this side.
    pub async fn ended(&self) {
        let mut over = self.over.subscribe();
        // The sender lives in this link.
        drop(over.wait_for(Option::is_some).await);
    }

    /// The start that left under this number.
    pub fn start_of(&self, order: u64) -> Option<Start> {
        let starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        starts.iter().find(|(seq, _)| *seq == order).map(|(_, start)| start.clone())
    }

    /// Sends a numbered request; the receiver hears the answer.
    pub fn ask(&self, make: impl FnOnce(u64) -> Body) -> Option<oneshot::Receiver<Answer>> {
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever asked before and gave up.
            waiting.retain(|_, asker| !asker.is_closed());
            waiting.insert(request, sender);
        }
        if self.send(make(request)) {
            return Some(receiver);
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&request);
        None
    }

    pub fn answered(&self, request: u64, answer: Answer) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&request);
        if let Some(sender) = waiting {
            // Nobody waits any more: the asker's time is over.
            let _ = sender.send(answer);
        }
    }

    /// Nobody will answer any more.
    pub fn hang_up(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The one hand that numbers a session's orders.
struct Writer {
    nonce: String,
    epochs: Arc<Epochs>,
    starts: Starts,
    out: mpsc::Sender<Result<ControllerMessage, Status>>,
}

impl Writer {
    async fn write(self, mut urgent: mpsc::Receiver<Order>, mut normal: mpsc::Receiver<Order>, mut over: watch::Receiver<Option<Status>>) {
        let mut seq = 0;
        loop {
            let order = tokio::select! {
                biased;
                why = over.wait_for(Option::is_some) => {
                    let why = why.ok().and_then(|why| why.clone());
                    // No room means that nobody reads: then there is nobody to tell.
                    drop(self.out.try_send(Err(why.unwrap_or_else(|| Status::aborted("the session is over")))));
                    return;
                }
                Some(order) = urgent.recv() => order,
                Some(order) = normal.recv() => order,
                () = self.out.closed() => return,
            };
            seq += 1;
            if let Body::Start(start) = &order.body {
                self.remember(seq, start);
            }
            let message = ControllerMessage {
                nonce: self.nonce.clone(),
                seq,
                halt_epoch: order.halt_epoch,
                store_epoch: self.epochs.store.load(Ordering::SeqCst),
                body: Some(order.body),
            };
            if self.out.send(Ok(message)).await.is_err() {
                return;
            }
        }
    }

    fn remember(&self, seq: u64, start: &Start) {
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        if starts.len() >= STARTS {
            starts.pop_front();
        }
        starts.push_back((seq, start.clone()));
    }
}

#[cfg(test)]
mod tests {
    use proto_wire::v1::{Halt, Stop};

    use super::*;

    fn start(injection: &str) -> Body {
        Body::Start(Start {
            injection: injection.into(),
            ..Start::default()
        })
    }

    #[tokio::test]
    async fn what_is_urgent_leaves_first_and_what_waited_keeps_its_epoch() {
        let epochs = Arc::new(Epochs::default());
        let (link, mut stream) = Link::new("n".into(), epochs.clone());
        // Not yet polled: the writer has not run, so both queues fill.
        assert!(link.send(start("a")));
        epochs.halt.store(1, Ordering::SeqCst);
        assert!(link.send_first(Body::Halt(Halt::default())) && link.send_first(Body::Stop(Stop::default())));
        epochs.halt.store(2, Ordering::SeqCst);
        let mut left = Vec::new();
        for _ in 0..3 {
            let message = stream.recv().await.unwrap().unwrap();
            left.push((message.seq, message.halt_epoch, matches!(message.body, Some(Body::Start(_)))));
        }
        assert_eq!(left, [(1, 1, false), (2, 1, false), (3, 0, true)]);
        assert_eq!(link.start_of(3).unwrap().injection, "a");
    }

    #[tokio::test]
    async fn a_link_that_is_ended_says_why_and_a_full_one_takes_no_more() {
        let (link, mut stream) = Link::new("n".into(), Arc::default());
        assert_eq!((0..QUEUE + 1).filter(|_| link.send(start("a"))).count(), QUEUE);
        let asked = link.ask(|_| start("b"));
        assert!(asked.is_none());
        link.end(Status::permission_denied("locked"));
        link.ended().await;
        assert_eq!(stream.recv().await.unwrap().unwrap_err().message(), "locked");
        assert!(stream.recv().await.is_none());
    }
}
