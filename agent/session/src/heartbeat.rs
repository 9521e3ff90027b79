//! The beat of a session: heartbeats with jitter, each with the newest status that the warden has given; a busy warden does not stop it.

use std::time::Duration;

use agent_warden::{AgentStatus, Command, WardenHandle};
use proto_wire::v1;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::warden_client::ask;

/// The interval until the controller has named one, and the bounds of what it may name.
const FIRST: Duration = Duration::from_secs(5);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

pub(crate) struct Heartbeat {
    every: Duration,
    next: Instant,
    asked: Option<oneshot::Receiver<AgentStatus>>,
    known: AgentStatus,
}

impl Heartbeat {
    pub fn new(known: AgentStatus) -> Self {
        Self {
            every: FIRST,
            next: Instant::now() + jittered(FIRST),
            asked: None,
            known,
        }
    }

    pub fn set_every(&mut self, ms: u32) {
        self.every = Duration::from_millis(ms.into()).clamp(SHORTEST, LONGEST);
        self.next = Instant::now() + jittered(self.every);
    }

    /// Waits for the next heartbeat. May be dropped while it waits.
    pub async fn beat(&mut self, warden: &WardenHandle) -> v1::Heartbeat {
        loop {
            tokio::select! {
                status = heard(&mut self.asked) => {
                    self.asked = None;
                    if let Some(status) = status {
                        self.known = status;
                    }
                    return self.heartbeat();
                }
                () = sleep_until(self.next) => {
                    self.next = Instant::now() + jittered(self.every);
                    // Still waiting for the last answer: say what is known.
                    if self.asked.is_some() {
                        return self.heartbeat();
                    }
                    match ask(warden, Command::Status) {
                        Ok(receiver) => self.asked = Some(receiver),
                        Err(_) => return self.heartbeat(),
                    }
                }
            }
        }
    }

    /// Ended injections that the controller had not settled at the last look.
    pub fn unsettled(&self) -> u32 {
        self.known.unsettled
    }

    fn heartbeat(&self) -> v1::Heartbeat {
        v1::Heartbeat {
            boot_ms: self.known.boot_ms,
            active: u32::try_from(self.known.active.len()).unwrap_or(u32::MAX),
            cleanliness: v1::Cleanliness::from(self.known.cleanliness).into(),
            halted: self.known.halted.is_some(),
            guarded: self.known.guarded,
        }
    }
}

async fn heard(asked: &mut Option<oneshot::Receiver<AgentStatus>>) -> Option<AgentStatus> {
    match asked {
        Some(receiver) => receiver.await.ok(),
        None => std::future::pending().await,
    }
}

/// Between 0.9 and 1.1 times as long, so that a fleet does not beat as one.
fn jittered(every: Duration) -> Duration {
    every.mul_f64(0.9 + 0.2 * rand::random::<f64>())
}
