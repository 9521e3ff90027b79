//! Accepts on a Unix socket for as long as the listener is wanted: an error of one connection never ends the others.

use std::io;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::admission::LogLimiter;

/// Connections that wait to be served.
const WAITING: usize = 16;
/// How long until the next try when a connection cannot be accepted, as when files run out.
pub(crate) const ACCEPT_AGAIN: Duration = Duration::from_millis(20);

/// Accepts until the stream is dropped.
pub fn incoming_local(listener: UnixListener) -> ReceiverStream<io::Result<UnixStream>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let failures = LogLimiter::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    if sender.send(Ok(stream)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    if let Some(suppressed) = failures.allow() {
                        tracing::error!(%error, suppressed, "a connection to the local socket was not accepted");
                    }
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}
