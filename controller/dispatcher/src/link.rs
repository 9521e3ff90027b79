//! One session's way out: two bounded queues, the urgent one first. Numbers are put on at the last moment; the halt epoch when an order is
//! made, so that what waited through a halt is never taken for an order of the time after it.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::unfold;
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::{ControllerMessage, DoctorAnswer, PreflightAnswer, Start, VerifyAnswer};
use tokio::sync::{Notify, oneshot};
use tokio_stream::Stream;
use tonic::Status;

/// Orders that may wait for one host, in each queue.
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
    epochs: Arc<Epochs>,
    shared: Arc<Shared>,
}

/// One session's memory. A fleet has thousands of these, so that it holds nothing for what may come.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Rung for the writer, when there is an order or the session is over.
    queued: Notify,
    /// Rung for whoever waits for the end.
    ended: Notify,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Order>,
    normal: VecDeque<Order>,
    /// Why the session is over, once it is.
    over: Option<Status>,
    /// The connection takes no more orders.
    hung_up: bool,
    starts: VecDeque<SentStart>,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    requests: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// A link, and the stream that the host reads.
    pub fn new(nonce: String, epochs: Arc<Epochs>) -> (Self, Orders) {
        let shared = Arc::<Shared>::default();
        let writer = Writer {
            nonce: nonce.clone(),
            epochs: epochs.clone(),
            shared: shared.clone(),
            seq: 0,
        };
        (Self { nonce, epochs, shared }, writer.orders())
    }

    /// Queues an order; false when the session is over or too far behind.
    pub fn send(&self, body: Body) -> bool {
        self.queue(body, |state| &mut state.normal)
    }

    /// Before everything that waits: stops and halts.
    pub fn send_first(&self, body: Body) -> bool {
        self.queue(body, |state| &mut state.urgent)
    }

    fn queue(&self, body: Body, queue: fn(&mut State) -> &mut VecDeque<Order>) -> bool {
        let halt_epoch = self.epochs.halt.load(Ordering::SeqCst);
        let mut state = self.shared.state();
        if state.hung_up || state.over.is_some() || queue(&mut state).len() >= QUEUE {
            return false;
        }
        queue(&mut state).push_back(Order { body, halt_epoch });
        drop(state);
        self.shared.queued.notify_one();
        true
    }

    /// Ends the session: the host reads why.
    pub fn end(&self, why: Status) {
        self.shared.state().over.get_or_insert(why);
        self.shared.queued.notify_one();
        self.shared.ended.notify_waiters();
        self.hang_up();
    }

    /// Comes when the session was ended from this side.
    pub async fn ended(&self) {
        loop {
            let ended = self.shared.ended.notified();
            if self.shared.state().over.is_some() {
                return;
            }
            ended.await;
        }
    }

    /// The start that left under this number.
    pub fn start_of(&self, order: u64) -> Option<SentStart> {
        self.shared.state().starts.iter().find(|start| start.seq == order).cloned()
    }

    /// Sends a numbered request; the receiver hears the answer.
    pub fn ask(&self, make: impl FnOnce(u64) -> Body) -> Option<oneshot::Receiver<Answer>> {
        let (sender, receiver) = oneshot::channel();
        let request = {
            let mut state = self.shared.state();
            state.requests += 1;
            let request = state.requests;
            // Whoever asked before and gave up.
            state.waiting.retain(|_, asker| !asker.is_closed());
            state.waiting.insert(request, sender);
            request
        };
        if self.send(make(request)) {
            return Some(receiver);
        }
        self.shared.state().waiting.remove(&request);
        None
    }

    pub fn answered(&self, request: u64, answer: Answer) {
        let waiting = self.shared.state().waiting.remove(&request);
        if let Some(sender) = waiting {
            // Nobody waits any more: the asker's time is over.
            let _ = sender.send(answer);
        }
    }

    /// Nobody will answer any more.
    pub fn hang_up(&self) {
        self.shared.state().waiting = HashMap::new();
    }
}

/// The one hand that numbers a session's orders.
struct Writer {
    nonce: String,
    epochs: Arc<Epochs>,
    shared: Arc<Shared>,
    seq: u64,
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.hung_up = true;
        // They cannot be sent any more.
        (state.urgent, state.normal) = Default::default();
    }
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
        let order = loop {
            if let Some(order) = self.take()? {
                break order;
            }
            self.shared.queued.notified().await;
        };
        Ok(ControllerMessage {
            nonce: self.nonce.clone(),
            seq: self.seq,
            halt_epoch: order.halt_epoch,
            store_epoch: self.epochs.store.load(Ordering::SeqCst),
            body: Some(order.body),
        })
    }

    /// The next order, numbered; why the session is over, once it is.
    fn take(&mut self) -> Result<Option<Order>, Status> {
        let mut state = self.shared.state();
        if let Some(why) = &state.over {
            return Err(why.clone());
        }
        let state = &mut *state;
        let Some(order) = state.urgent.pop_front().or_else(|| state.normal.pop_front()) else {
            // What a burst needed is given back.
            (state.urgent, state.normal) = Default::default();
            return Ok(None);
        };
        self.seq += 1;
        if let Body::Start(start) = &order.body {
            remember(&mut state.starts, self.seq, start);
        }
        Ok(Some(order))
    }
}

fn remember(starts: &mut VecDeque<SentStart>, seq: u64, start: &Start) {
    if starts.len() >= STARTS {
        starts.pop_front();
    }
    starts.push_back(SentStart {
        seq,
        injection: start.injection.clone(),
        run: start.run.clone(),
    });
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
