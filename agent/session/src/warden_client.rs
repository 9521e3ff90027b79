//! Questions to the warden and answers to the controller, without holding a thread or the session's loop.

use std::time::Duration;

use agent_warden::{ANSWER_WITHIN, Command, Reply, WardenError, WardenHandle};
use proto_wire::v1::agent_message::Body;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

/// How long, and how often, what may not be lost is offered to a warden that has no room for it.
const OFFER_WITHIN: Duration = Duration::from_secs(60);
const OFFER_EVERY: Duration = Duration::from_millis(50);

/// Asks now; the answer may be awaited elsewhere.
pub(crate) fn ask<T: Send + 'static>(
    warden: &WardenHandle,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Result<oneshot::Receiver<T>, WardenError> {
    let (sender, receiver) = oneshot::channel();
    warden.send(command(Box::new(move |answer| drop(sender.send(answer)))))?;
    Ok(receiver)
}

/// Asks until there is room: for what ends faults, which a full queue must not undo. `then` gets the way to the answer.
pub(crate) fn request_retrying<T: Send + 'static>(
    warden: &WardenHandle,
    command: impl Fn(Reply<T>) -> Command + Send + 'static,
    then: impl FnOnce(oneshot::Receiver<T>) + Send + 'static,
) -> Result<(), WardenError> {
    // At once if possible, so that orders keep their order.
    match ask(warden, &command) {
        Ok(receiver) => then(receiver),
        Err(WardenError::Busy) => {
            let warden = warden.clone();
            tokio::spawn(async move {
                match offer(&warden, command).await {
                    Ok(receiver) => then(receiver),
                    Err(error) => tracing::error!(%error, "a stop, halt or release did not reach the warden"),
                }
            });
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn offer<T: Send + 'static>(
    warden: &WardenHandle,
    command: impl Fn(Reply<T>) -> Command,
) -> Result<oneshot::Receiver<T>, WardenError> {
    let until = Instant::now() + OFFER_WITHIN;
    loop {
        sleep(OFFER_EVERY).await;
        match ask(warden, &command) {
            Err(WardenError::Busy) if Instant::now() < until => {}
            taken => return taken,
        }
    }
}

/// How long a halt may take to undo everything until its answer counts as lost: also hosts that are slow are to be heard.
pub(crate) const HALT_ANSWER_WITHIN: Duration = Duration::from_secs(600);

pub(crate) async fn answer<T>(receiver: oneshot::Receiver<T>) -> Result<T, WardenError> {
    answer_within(ANSWER_WITHIN, receiver).await
}

async fn answer_within<T>(limit: Duration, receiver: oneshot::Receiver<T>) -> Result<T, WardenError> {
    match tokio::time::timeout(limit, receiver).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(WardenError::Gone),
        Err(_) => Err(WardenError::Timeout),
    }
}

/// Passes the warden's answer on as a message, when it comes. At most as many are under way as the warden's queue holds.
pub(crate) fn forward<T: Send + 'static>(
    receiver: oneshot::Receiver<T>,
    out: &mpsc::Sender<Body>,
    into: impl FnOnce(T) -> Body + Send + 'static,
) {
    forward_within(ANSWER_WITHIN, receiver, out, into);
}

/// The same for an answer that may take its time.
pub(crate) fn forward_within<T: Send + 'static>(
    limit: Duration,
    receiver: oneshot::Receiver<T>,
    out: &mpsc::Sender<Body>,
    into: impl FnOnce(T) -> Body + Send + 'static,
) {
    let out = out.clone();
    tokio::spawn(async move {
        match answer_within(limit, receiver).await {
            Ok(told) => drop(out.send(into(told)).await),
            Err(error) => tracing::warn!(%error, "an order stays without its answer"),
        }
    });
}
