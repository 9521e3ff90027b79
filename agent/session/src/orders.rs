//! What an order means to the warden. Everything that waits for an answer waits in a task of its own, so a stop is never behind it.

use agent_warden::{Command, HaltAnswer, StartOrder, WardenHandle};
use proto_model::catalogue::FaultKind;
use proto_model::id::{InjectionId, PlanDigest, RunId};
use proto_model::injection::{EndedBy, Wish};
use proto_wire::v1::agent_message::Body;
use proto_wire::v1::{HaltAnswer as HaltAnswered, OrderRefused, PreflightAnswer, Start, VerifyAnswer};
use tokio::sync::oneshot;

use crate::error::SessionError;
use crate::outbox::Outbox;

/// Asks the warden without holding a thread.
pub(crate) async fn ask<T: Send + 'static>(
    warden: &WardenHandle,
    command: impl FnOnce(agent_warden::Reply<T>) -> Command,
) -> Result<T, SessionError> {
    let (sender, receiver) = oneshot::channel();
    let reply: agent_warden::Reply<T> = Box::new(move |answer| drop(sender.send(answer)));
    warden.send(command(reply)).map_err(|_| SessionError::Warden)?;
    match tokio::time::timeout(agent_warden::ANSWER_WITHIN, receiver).await {
        Ok(Ok(answer)) => Ok(answer),
        _ => Err(SessionError::Warden),
    }
}

/// The warden's start, with every field understood.
pub(crate) fn start_order(start: &Start) -> Result<StartOrder, String> {
    Ok(StartOrder {
        injection: InjectionId::parse(&start.injection).map_err(|e| e.to_string())?,
        run: RunId::parse(&start.run).map_err(|e| e.to_string())?,
        fault: FaultKind::parse(&start.fault).map_err(|e| e.to_string())?,
        params: serde_json::from_str(&start.params_json).map_err(|e| format!("params: {e}"))?,
        duration_ms: start.duration_ms,
        lease_ms: start.lease_ms,
        plan_digest: PlanDigest(start.plan_digest.clone()),
        seed: start.seed,
    })
}

pub(crate) fn injections(texts: &[String]) -> Result<Vec<InjectionId>, String> {
    texts
        .iter()
        .map(|text| InjectionId::parse(text).map_err(|e| e.to_string()))
        .collect()
}

pub(crate) fn cause(text: &str) -> EndedBy {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).unwrap_or(EndedBy::Stop)
}

pub(crate) fn malformed(order_seq: u64, message: String) -> OrderRefused {
    OrderRefused {
        order_seq,
        code: "malformed".to_owned(),
        message,
    }
}

pub(crate) async fn preflight(warden: &WardenHandle, request: u64, wishes_json: &str, boot_id: String) -> Result<Body, SessionError> {
    let wishes: Vec<Wish> = serde_json::from_str(wishes_json).map_err(|e| SessionError::Protocol(format!("wishes: {e}")))?;
    let answers = if wishes.is_empty() {
        Vec::new()
    } else {
        ask(warden, |reply| Command::Preflight(wishes, reply)).await?
    };
    let answers_json = serde_json::to_string(&answers).unwrap_or_default();
    Ok(Body::Preflight(PreflightAnswer {
        request,
        answers_json,
        boot_id,
    }))
}

pub(crate) async fn verify(warden: &WardenHandle, request: u64, ids: Vec<InjectionId>) -> Result<Body, SessionError> {
    let proof = ask(warden, |reply| Command::Verify(ids, reply)).await?;
    Ok(Body::Verified(VerifyAnswer {
        request,
        proof_json: serde_json::to_string(&proof).unwrap_or_default(),
    }))
}

pub(crate) async fn halt(warden: WardenHandle, epoch: u64, reason: String, outbox: Outbox) -> Result<(), SessionError> {
    let answer: HaltAnswer = ask(&warden, |reply| Command::Halt { epoch, reason, reply }).await?;
    outbox
        .send(Body::Halt(HaltAnswered {
            epoch,
            halted: true,
            undone: answer.undone,
            failed: answer.failed,
        }))
        .await
}

pub(crate) async fn release(warden: &WardenHandle, epoch: u64, outbox: &Outbox) -> Result<(), SessionError> {
    warden.send(Command::Release { epoch }).map_err(|_| SessionError::Warden)?;
    // The host's own latch may still hold.
    let status = ask(warden, Command::Status).await?;
    outbox
        .send(Body::Halt(HaltAnswered {
            epoch,
            halted: status.halted.is_some(),
            undone: 0,
            failed: 0,
        }))
        .await
}
