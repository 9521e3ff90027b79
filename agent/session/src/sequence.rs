//! Messages on their way out, numbered in the order in which they leave; it never waits for an answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use proto_wire::v1::AgentMessage;
use proto_wire::v1::agent_message::Body;
use tokio::sync::mpsc;
use tokio_stream::Stream;

/// What may be on its way at the same time.
const QUEUE: usize = 256;

/// Ends when every sender is gone.
pub(crate) struct Numbered {
    bodies: mpsc::Receiver<Body>,
    last: u64,
}

pub(crate) fn numbered() -> (mpsc::Sender<Body>, Numbered) {
    let (sender, bodies) = mpsc::channel(QUEUE);
    (sender, Numbered { bodies, last: 0 })
}

impl Stream for Numbered {
    type Item = AgentMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AgentMessage>> {
        self.bodies.poll_recv(cx).map(|body| {
            let body = body?;
            self.last += 1;
            Some(AgentMessage {
                seq: self.last,
                body: Some(body),
            })
        })
    }
}
