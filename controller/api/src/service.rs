//! The parts every service shares, and the router that puts them behind the access table.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use controller_conductor::{BoxFuture, HostGateway, Supervisor};
use controller_policy::Policy;
use controller_scheduler::Scheduler;
use controller_store::{Actor, StoreHandle};
use proto_model::event::FleetEventBody;
use proto_model::time::Timestamp;
use proto_transport::{Authorities, IssuedList};
use serde::Serialize;
use tonic::{Request, Status};

use crate::audit::AuditLog;
use crate::caller::Caller;
use crate::door::Door;
use crate::error::{ApiError, ApiResult};
use crate::glances::Glances;
use crate::keyring::Keyring;
use crate::late::LateWriter;

/// What the front door is built from.
pub struct ApiParts {
    pub voice: Arc<dyn HostGateway>,
    pub runs: Supervisor,
    pub store: StoreHandle,
    pub keyring: Keyring,
    pub audit: AuditLog,
    pub policy: Policy,
    pub authorities: Arc<Authorities>,
    /// Operators' certificates.
    pub issued: IssuedList,
    /// Where reports are written.
    pub reports: PathBuf,
    pub now: fn() -> Timestamp,
    /// The clock of everything that is due or overdue; a drill may move it, and it moves nothing else.
    pub cadence_now: fn() -> Timestamp,
    pub scheduler: Scheduler,
    pub glances: Glances,
}

/// One implementation behind all services.
#[derive(Clone)]
pub struct Api(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    parts: ApiParts,
    /// Lines of the fleet's log about calls that wait for nothing.
    late: LateWriter<LateCall>,
    /// Held while a host's record or the authority is changed: what one person sets must not be lost to what another sets.
    pub changing: tokio::sync::Mutex<()>,
}

impl Deref for Inner {
    type Target = ApiParts;
    fn deref(&self) -> &ApiParts {
        &self.parts
    }
}

impl Api {
    pub fn new(parts: ApiParts) -> Self {
        let store = parts.store.clone();
        let late = LateWriter::new(Box::new(move |call| record(&store, call)), LateCall::lost);
        Self(Arc::new(Inner {
            parts,
            late,
            changing: tokio::sync::Mutex::default(),
        }))
    }

    pub(crate) fn door(&self) -> Door {
        Door {
            keyring: self.0.keyring.clone(),
            audit: self.0.audit.clone(),
            now: self.0.now,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0.now)()
    }

    /// Now, by the clock of a cadence.
    pub(crate) fn cadence_now(&self) -> Timestamp {
        (self.0.cadence_now)()
    }

    /// The same of a call that waits for nothing: recorded as soon as the store takes it.
    pub(crate) fn audit_late(&self, caller: &Caller, method: &str, target: &str) {
        caller.concerns(target);
        self.0.late.write(LateCall {
            method: method.to_owned(),
            target: target.to_owned(),
            actor: caller.actor(),
            at: self.now(),
        });
    }

    /// Who did what to what, in the fleet's own log; and the subject for the audit log.
    pub(crate) async fn audit(&self, caller: &Caller, method: &str, target: &str) -> ApiResult<()> {
        caller.concerns(target);
        let event = FleetEventBody::CallMade {
            method: method.to_owned(),
            target: target.to_owned(),
        };
        let (actor, now) = (caller.actor(), self.now());
        Ok(self.0.store.call(move |store| store.fleet(event, &actor, now)).await?)
    }
}

/// A line of the fleet's log that is written after what it tells of.
#[derive(Clone)]
struct LateCall {
    method: String,
    target: String,
    actor: Actor,
    at: Timestamp,
}

impl LateCall {
    /// Stands for so many that found no room while the store took nothing.
    fn lost(number: u64) -> Self {
        Self {
            method: "lost".to_owned(),
            target: format!("{number} calls that could not be recorded"),
            actor: Actor {
                by: "controller".to_owned(),
                address: String::new(),
            },
            at: Timestamp(0),
        }
    }
}

fn record(store: &StoreHandle, call: LateCall) -> BoxFuture<'static, Result<(), String>> {
    let store = store.clone();
    Box::pin(async move {
        let event = FleetEventBody::CallMade {
            method: call.method,
            target: call.target,
        };
        let actor = call.actor.clone();
        store
            .call(move |store| store.fleet(event, &actor, call.at))
            .await
            .map_err(|error| error.to_string())
    })
}

/// Who calls: put there by the access layer.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| ApiError::new("not_authenticated", "no identity").into())
}

/// A document of the published JSON.
pub(crate) fn document<T: Serialize>(kind: &str, body: &T) -> ApiResult<String> {
    let document = proto_model::document::Document::new(kind, body);
    serde_json::to_string(&document).map_err(|e| ApiError::new("internal", format!("encode a {kind}: {e}")))
}
