//! One session's way out: two bounded queues, the urgent one first; numbers, nonce and epochs are put on at the last moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proto_wire::v1::controller_message::Body;
use proto_wire::v1::{ControllerMessage, PreflightAnswer, VerifyAnswer};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// Orders that may wait for one host.
const QUEUE: usize = 256;

/// What a host answers to a numbered request.
pub(crate) enum Answer {
    Preflight(PreflightAnswer),
    Verify(VerifyAnswer),
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
    urgent: mpsc::Sender<Body>,
    normal: mpsc::Sender<Body>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>,
    next_request: Arc<AtomicU64>,
}

impl Link {
    /// A link, and the stream that the host reads.
    pub fn new(nonce: String, epochs: Arc<Epochs>) -> (Self, mpsc::Receiver<Result<ControllerMessage, Status>>) {
        let (urgent, urgent_rx) = mpsc::channel(QUEUE);
        let (normal, normal_rx) = mpsc::channel(QUEUE);
        let (out, stream) = mpsc::channel(16);
        tokio::spawn(write(nonce.clone(), epochs, urgent_rx, normal_rx, out));
        (
            Self {
                nonce,
                urgent,
                normal,
                waiting: Arc::default(),
                next_request: Arc::new(AtomicU64::new(1)),
            },
            stream,
        )
    }

    /// Queues an order; false when the session is over or too far behind.
    pub fn send(&self, body: Body) -> bool {
        self.normal.try_send(body).is_ok()
    }

    /// Before everything that waits: stops and halts.
    pub fn send_first(&self, body: Body) -> bool {
        self.urgent.try_send(body).is_ok()
    }

    /// Sends a numbered request; the receiver hears the answer.
    pub fn ask(&self, make: impl FnOnce(u64) -> Body) -> Option<oneshot::Receiver<Answer>> {
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(request, sender);
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

async fn write(
    nonce: String,
    epochs: Arc<Epochs>,
    mut urgent: mpsc::Receiver<Body>,
    mut normal: mpsc::Receiver<Body>,
    out: mpsc::Sender<Result<ControllerMessage, Status>>,
) {
    let mut seq = 0;
    loop {
        let body = tokio::select! {
            biased;
            Some(body) = urgent.recv() => body,
            Some(body) = normal.recv() => body,
            () = out.closed() => return,
            else => return,
        };
        seq += 1;
        let message = ControllerMessage {
            nonce: nonce.clone(),
            seq,
            halt_epoch: epochs.halt.load(Ordering::SeqCst),
            store_epoch: epochs.store.load(Ordering::SeqCst),
            body: Some(body),
        };
        if out.send(Ok(message)).await.is_err() {
            return;
        }
    }
}
