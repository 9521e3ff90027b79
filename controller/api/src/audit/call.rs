//! One call on its way into the audit log: noted before it changes anything, told with its outcome after. It lets nobody in.

use std::io;

use proto_model::document::{AuditEntry, AuditOutcome, ERROR_METADATA, ErrorDocument};
use proto_model::id::TokenId;
use proto_model::time::Timestamp;
use tonic::Status;
use tonic::codegen::http::HeaderMap;

use super::log::AuditLog;
use crate::access::short;
use crate::caller::Caller;

/// A call that was noted. Dropped before it was answered, its outcome is unknown.
pub(crate) struct Written {
    log: AuditLog,
    caller: Caller,
    entry: Option<AuditEntry>,
}

impl AuditLog {
    /// Notes the call; `Err` means that it must not happen.
    pub(crate) async fn noted(&self, caller: &Caller, call: &str, now: Timestamp) -> io::Result<Written> {
        let entry = entry_of(caller, call, now);
        let (log, noted) = (self.clone(), entry.clone());
        let begun = tokio::task::spawn_blocking(move || log.begin(&noted)).await;
        begun.map_err(io::Error::other)??;
        Ok(Written {
            log: self.clone(),
            caller: caller.clone(),
            entry: Some(entry),
        })
    }

    /// Tells of a call that already happened, without holding up its answer.
    pub(crate) fn told(&self, caller: &Caller, call: &str, now: Timestamp, answer: &HeaderMap) {
        let mut entry = entry_of(caller, call, now);
        entry.subject = caller.subject();
        (entry.outcome, entry.code) = outcome(answer);
        self.late().write(entry);
    }

    /// Tells of a call that was not let in.
    pub(crate) fn refused(&self, caller: Option<&Caller>, address: String, call: &str, code: &str, unlisted: u64, now: Timestamp) {
        self.late().write(AuditEntry {
            caller: caller.map(|caller| caller.name.clone()),
            role: caller.map(|caller| caller.role),
            address,
            outcome: AuditOutcome::Refused,
            code: Some(code.to_owned()),
            unlisted,
            ..entry(call, now)
        });
    }

    /// The line that stands for so many that found no room while nothing could be written.
    pub(super) fn lost_lines(lost: u64) -> AuditEntry {
        AuditEntry {
            code: Some("lost".to_owned()),
            unlisted: lost,
            ..entry("Audit/Lost", Timestamp(0))
        }
    }
}

impl Written {
    /// Its line is on the disk when this returns; without it the note stays, and becomes a line at the next start.
    pub async fn answered(mut self, answer: &HeaderMap) {
        let Some(mut entry) = self.entry.take() else { return };
        entry.subject = self.caller.subject();
        (entry.outcome, entry.code) = outcome(answer);
        let log = self.log.clone();
        let ended = tokio::task::spawn_blocking(move || end(&log, &entry)).await;
        if let Err(error) = ended {
            tracing::error!(%error, "a line of the audit log was not written");
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let Some(mut entry) = self.entry.take() else { return };
        entry.subject = self.caller.subject();
        let log = self.log.clone();
        tokio::task::spawn_blocking(move || end(&log, &entry));
    }
}

fn end(log: &AuditLog, entry: &AuditEntry) {
    if let Err(error) = log.end(entry) {
        tracing::error!(%error, call = entry.call, caller = entry.caller, "a call happened, and its line of the audit log could not be written");
    }
}

fn entry_of(caller: &Caller, call: &str, now: Timestamp) -> AuditEntry {
    AuditEntry {
        caller: Some(caller.name.clone()),
        role: Some(caller.role),
        address: caller.address.clone(),
        ..entry(call, now)
    }
}

fn entry(call: &str, now: Timestamp) -> AuditEntry {
    AuditEntry {
        id: TokenId::generate().to_string(),
        at: now,
        caller: None,
        role: None,
        address: String::new(),
        call: short(call).chars().take(100).collect(),
        subject: None,
        outcome: AuditOutcome::Unknown,
        code: None,
        unlisted: 0,
    }
}

/// An answer that is an error carries its status in front of everything else.
fn outcome(answer: &HeaderMap) -> (AuditOutcome, Option<String>) {
    let Some(status) = Status::from_header_map(answer).filter(|status| status.code() != tonic::Code::Ok) else {
        return (AuditOutcome::Done, None);
    };
    let document = status.metadata().get_bin(ERROR_METADATA).and_then(|bytes| bytes.to_bytes().ok());
    let known = document.and_then(|bytes| serde_json::from_slice::<ErrorDocument>(&bytes).ok());
    let code = known.map_or_else(|| format!("{:?}", status.code()).to_lowercase(), |document| document.error.code);
    (AuditOutcome::Failed, Some(code))
}
