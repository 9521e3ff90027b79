//! The way to the controller: a bounded queue whose messages are numbered as they leave.

use proto_model::injection::AgentReport;
use proto_wire::v1::agent_message::Body;
use proto_wire::v1::{AgentMessage, InjectionReport};
use tokio::sync::mpsc;

use crate::error::SessionError;

/// Messages that may wait for the network.
const QUEUE: usize = 256;

#[derive(Clone)]
pub(crate) struct Outbox(mpsc::Sender<Body>);

impl Outbox {
    /// The outbox, and the stream that is sent.
    pub fn new() -> (Self, mpsc::Receiver<AgentMessage>) {
        let (sender, mut bodies) = mpsc::channel(QUEUE);
        let (out, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut seq = 0;
            while let Some(body) = bodies.recv().await {
                seq += 1;
                if out.send(AgentMessage { seq, body: Some(body) }).await.is_err() {
                    return;
                }
            }
        });
        (Self(sender), stream)
    }

    /// Waits for room; fails when the session is over.
    pub async fn send(&self, body: Body) -> Result<(), SessionError> {
        self.0
            .send(body)
            .await
            .map_err(|_| SessionError::Over("the stream is closed".to_owned()))
    }

    /// For what may be dropped under load.
    pub fn offer(&self, body: Body) {
        if self.0.try_send(body).is_err() {
            tracing::debug!("telemetry dropped under load");
        }
    }

    pub async fn report(&self, report: &AgentReport) -> Result<(), SessionError> {
        self.send(Body::Report(InjectionReport {
            injection: report.injection.to_string(),
            run: report.run.clone(),
            agent_seq: report.agent_seq,
            boot_id: report.boot_id.clone(),
            boot_ms: report.boot_ms,
            body_json: serde_json::to_string(&report.fact).unwrap_or_default(),
        }))
        .await
    }
}
