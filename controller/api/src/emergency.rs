//! Halt, release and status. A halt is told to hosts before anything is stored.

use controller_conductor::HaltAnswer;
use proto_model::document::StatusDocument;
use proto_model::host::Connection;
use proto_model::injection::Cleanliness;
use proto_wire::v1::emergency_server::Emergency;
use proto_wire::v1::{Document, HaltReply, HaltRequest, ReleaseRequest, StatusRequest};
use tonic::{Request, Response, Status, async_trait};

use crate::caller::Caller;
use crate::error::{ApiError, ApiResult};
use crate::service::{Api, caller, document};

#[async_trait]
impl Emergency for Api {
    async fn halt(&self, request: Request<HaltRequest>) -> Result<Response<HaltReply>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(reply(self.halt_by(&caller, &request.into_inner().reason).await)))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<HaltReply>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(reply(self.release_by(&caller, &request.into_inner().reason).await?)))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let hosts = self.0.voice.hosts();
        let count =
            |wanted: fn(&proto_model::host::Host) -> bool| u32::try_from(hosts.iter().filter(|h| wanted(h)).count()).unwrap_or(u32::MAX);
        // A status is answered even when the store is not.
        let injections = self.acting(&hosts).await.unwrap_or_else(|error| {
            tracing::warn!(error = error.0.message, "what acts could not be listed; hosts' own counts stand");
            Vec::new()
        });
        let halt = self.0.runs.halt_state();
        let status = StatusDocument {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            silent: if halt.engaged {
                self.0.voice.silent(halt.epoch)
            } else {
                Vec::new()
            },
            halt,
            hosts_connected: count(|h| h.connection == Connection::Connected),
            hosts_lost: count(|h| h.connection == Connection::Lost),
            hosts_dirty: count(|h| h.cleanliness == Cleanliness::Dirty),
            runs_active: self.0.runs.active_runs(),
            injections_active: hosts.iter().map(|h| h.active_injections).sum(),
            now: self.now(),
            cadence_now: self.cadence_now(),
            injections,
            caller: caller.name,
            role: Some(caller.role),
            failed_authentications: self.0.keyring.failed_authentications(),
            warnings: self.authority_warnings(),
        };
        Ok(Response::new(Document {
            json: document("Status", &status)?,
        }))
    }
}

impl Api {
    /// A reason is welcome and never waited for.
    pub(crate) async fn halt_by(&self, caller: &Caller, asked: &str) -> HaltAnswer {
        let reason = if asked.trim().is_empty() {
            format!("by {}", caller.name)
        } else {
            asked.to_owned()
        };
        caller.concerns(&reason);
        self.0.runs.halt(&caller.name, &reason).await
    }

    pub(crate) async fn release_by(&self, caller: &Caller, reason: &str) -> ApiResult<HaltAnswer> {
        caller.concerns(reason);
        if reason.trim().is_empty() {
            return Err(ApiError::new("usage", "a release needs its reason"));
        }
        if !self.0.runs.halt_state().engaged {
            return Err(ApiError::new("refused", "nothing is halted"));
        }
        Ok(self.0.runs.release(&caller.name, reason).await)
    }
}

fn reply(answer: HaltAnswer) -> HaltReply {
    let silent = answer
        .told
        .iter()
        .filter(|host| !answer.answered.contains(host))
        .map(ToString::to_string)
        .collect();
    HaltReply {
        epoch: answer.state.epoch,
        engaged: answer.state.engaged,
        hosts_told: u32::try_from(answer.told.len()).unwrap_or(u32::MAX),
        hosts_answered: u32::try_from(answer.answered.len()).unwrap_or(u32::MAX),
        silent,
        undone: answer.undone,
        took_ms: answer.took_ms,
    }
}
