//! The agent's socket on the host itself, for root: status, halt, release, one JSON line each way; nothing else is served.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_warden::{AgentStatus, Command, HaltAnswer, WardenError, WardenHandle};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// Callers served at the same time; the next one waits.
const CALLERS: usize = 4;
/// The longest question, in bytes, and how long a caller may take to ask it.
const QUESTION_MAX: u64 = 4 * 1024;
const ASKED_WITHIN: Duration = Duration::from_secs(2);

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    Status,
    Halt { reason: String },
    Release,
}

/// One line back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "body", rename_all = "snake_case")]
pub enum Answer {
    Status(AgentStatus),
    Halted(HaltAnswer),
    Released,
    Refused(String),
}

/// Makes the socket, for root alone; a stale one is replaced (the instance lock says that nobody serves it).
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).with_context(|| format!("remove the old {}", path.display())),
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, private).with_context(|| format!("keep {} for root", path.display()))?;
    Ok(listener)
}

/// Serves until it is dropped.
pub async fn serve(listener: UnixListener, warden: WardenHandle) {
    let paths = Arc::new(Semaphore::new(CALLERS));
    loop {
        let Ok(place) = paths.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let warden = warden.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &warden).await {
                        tracing::debug!(%error, "a local caller left");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a local caller cannot be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, warden: &WardenHandle) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(QUESTION_MAX));
    timeout(ASKED_WITHIN, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str(&line) {
        Ok(ask) => put(ask, warden).await.unwrap_or_else(|error| Answer::Refused(error.to_string())),
        Err(error) => Answer::Refused(format!("not a question of this socket: {error}")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    timeout(ASKED_WITHIN, writer.write_all(text.as_bytes())).await?
}

async fn put(ask: Ask, warden: &WardenHandle) -> Result<Answer, WardenError> {
    match ask {
        Ask::Status => heard(warden, Command::Status).await.map(Answer::Status),
        Ask::Halt { reason } => heard(warden, |reply| Command::LocalHalt { reason, reply })
            .await
            .map(Answer::Halted),
        Ask::Release => heard(warden, Command::LocalRelease).await?.map(|()| Answer::Released),
    }
}

/// Asks the warden without holding a thread.
pub async fn heard<T: Send + 'static>(
    warden: &WardenHandle,
    command: impl FnOnce(agent_warden::Reply<T>) -> Command,
) -> Result<T, WardenError> {
    let (sender, receiver) = oneshot::channel();
    warden.send(command(Box::new(move |answer| drop(sender.send(answer)))))?;
    match timeout(agent_warden::ANSWER_WITHIN, receiver).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(WardenError::Gone),
        Err(_) => Err(WardenError::Timeout),
    }
}
