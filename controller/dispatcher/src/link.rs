//! One session's way out: two bounded queues, the urgent one first. Numbers are put on at the last moment; the halt epoch when an order is
//! made, so that what waited through a halt is never taken for an order of the time after it.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::unfold;
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::{ControllerMessage, DoctorAnswer, PreflightAnswer, Start, VerifyAnswer};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::Stream;
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

/// A start that has left: enough of it to tell a refusal to its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentStart {
    pub seq: u64,
    pub injection: String,
    pub run: String,
}

type Starts = Arc<Mutex<VecDeque<SentStart>>>;

/// What the host reads: each order is numbered as the connection takes it, so that nothing overtakes a halt once it is taken.
pub(crate) type Orders = Pin<Box<dyn Stream<Item = Result<ControllerMessage, Status>> + Send>>;

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
    // In boxes: a queue keeps room for dozens of items from the first on, and there are two for each host.
    urgent: mpsc::Sender<Box<Order>>,
    normal: mpsc::Sender<Box<Order>>,
    epochs: Arc<Epochs>,
    starts: Starts,
    /// Why the session is over, once it is.
    over: Arc<watch::Sender<Option<Status>>>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>,
    next_request: Arc<AtomicU64>,
}

impl Link {
    /// A link, and the stream that the host reads.
    pub fn new(nonce: String, epochs: Arc<Epochs>) -> (Self, Orders) {
        let (urgent, urgent_rx) = mpsc::channel(QUEUE);
        let (normal, normal_rx) = mpsc::channel(QUEUE);
        let (over, is_over) = watch::channel(None);
        let starts = Starts::default();
        let writer = Writer {
            nonce: nonce.clone(),
            epochs: epochs.clone(),
            starts: starts.clone(),
            urgent: urgent_rx,
            normal: normal_rx,
            over: is_over,
            seq: 0,
        };
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
            writer.orders(),
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

    fn made_now(&self, body: Body) -> Box<Order> {
        let halt_epoch = self.epochs.halt.load(Ordering::SeqCst);
        Box::new(Order { body, halt_epoch })
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
    pub fn start_of(&self, order: u64) -> Option<SentStart> {
        let starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        starts.iter().find(|start| start.seq == order).cloned()
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
    urgent: mpsc::Receiver<Box<Order>>,
    normal: mpsc::Receiver<Box<Order>>,
    over: watch::Receiver<Option<Status>>,
    seq: u64,
}

impl Writer {
    /// Ends after the status that says why.
    fn orders(self) -> Orders {
        Box::pin(unfold(Some(self), |writer| async {
            let mut writer = writer?;
            match writer.next().await {
                Ok(message) => Some((Ok(message), Some(writer))),
                Err(why) => Some((Err(why), None)),
            }
        }))
    }

    async fn next(&mut self) -> Result<ControllerMessage, Status> {
        let order = tokio::select! {
            biased;
            why = self.over.wait_for(Option::is_some) => {
                let why = why.ok().and_then(|why| why.clone());
                return Err(why.unwrap_or_else(|| Status::aborted("the session is over")));
            }
            Some(order) = self.urgent.recv() => order,
            Some(order) = self.normal.recv() => order,
        };
        self.seq += 1;
        if let Body::Start(start) = &order.body {
            self.remember(start);
        }
        Ok(ControllerMessage {
            nonce: self.nonce.clone(),
            seq: self.seq,
            halt_epoch: order.halt_epoch,
            store_epoch: self.epochs.store.load(Ordering::SeqCst),
            body: Some(order.body),
        })
    }

    fn remember(&self, start: &Start) {
        let mut starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner);
        if starts.len() >= STARTS {
            starts.pop_front();
        }
        starts.push_back(SentStart {
            seq: self.seq,
            injection: start.injection.clone(),
            run: start.run.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use proto_wire::v1::{Halt, Stop};
    use tokio_stream::StreamExt;

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
        assert!(link.send(start("a")));
        epochs.halt.store(1, Ordering::SeqCst);
        assert!(link.send_first(Body::Halt(Halt::default())) && link.send_first(Body::Stop(Stop::default())));
        epochs.halt.store(2, Ordering::SeqCst);
        let mut left = Vec::new();
        for _ in 0..3 {
            let message = stream.next().await.unwrap().unwrap();
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
        assert_eq!(stream.next().await.unwrap().unwrap_err().message(), "locked");
        assert!(stream.next().await.is_none());
    }
}
