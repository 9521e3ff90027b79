//! Questions to the warden and answers to the controller, without holding a thread or the session's loop.

use agent_warden::{ANSWER_WITHIN, Command, Reply, WardenError, WardenHandle};
use proto_wire::v1::agent_message::Body;
use tokio::sync::{mpsc, oneshot};

/// Asks now; the answer may be awaited elsewhere.
pub(crate) fn ask<T: Send + 'static>(
    warden: &WardenHandle,
    command: impl FnOnce(Reply<T>) -> Command,
) -> Result<oneshot::Receiver<T>, WardenError> {
    let (sender, receiver) = oneshot::channel();
    warden.send(command(Box::new(move |answer| drop(sender.send(answer)))))?;
    Ok(receiver)
}

pub(crate) async fn answer<T>(receiver: oneshot::Receiver<T>) -> Result<T, WardenError> {
    match tokio::time::timeout(ANSWER_WITHIN, receiver).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(WardenError::Gone),
        Err(_) => Err(WardenError::Timeout),
    }
}

/// Passes the warden's answer on as a message, when it comes. At most as many are under way as the warden's queue holds.
pub(crate) fn pass_on<T: Send + 'static>(
    receiver: oneshot::Receiver<T>,
    out: &mpsc::Sender<Body>,
    into: impl FnOnce(T) -> Body + Send + 'static,
) {
    let out = out.clone();
    tokio::spawn(async move {
        match answer(receiver).await {
            Ok(told) => drop(out.send(into(told)).await),
            Err(error) => tracing::warn!(%error, "an order stays without its answer"),
        }
    });
}
