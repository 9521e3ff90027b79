//! Hosts as operators see and mark them: list, label, cordon, ask for the proof again, answer for a dirty one.

use std::collections::BTreeMap;

use controller_store::HostRecord;
use proto_model::doctor::HostDoctor;
use proto_model::event::FleetEventBody;
use proto_model::host::{Host, Membership};
use proto_model::id::HostName;
use proto_model::injection::Cleanliness;
use proto_model::selector::Selector;
use proto_wire::v1::hosts_server::Hosts;
use proto_wire::v1::{AcceptRequest, CordonRequest, Document, Documents, HostRef, HostsListRequest, LabelRequest, LockRequest};
use tonic::{Request, Response, Status, async_trait};

use crate::caller::Caller;
use crate::error::{ApiError, ApiResult, not_found};
use crate::service::{Api, caller, document};
use crate::tokens::check_labels;

#[async_trait]
impl Hosts for Api {
    async fn list(&self, request: Request<HostsListRequest>) -> Result<Response<Documents>, Status> {
        let text = request.into_inner().selector;
        let selector = if text.is_empty() {
            Selector::All
        } else {
            Selector::parse(&text).map_err(|e| ApiError::new("usage", e.to_string()))?
        };
        let mut hosts: Vec<Host> = self
            .0
            .voice
            .hosts()
            .into_iter()
            .filter(|h| selector.matches(&h.name, &h.selectable()))
            .collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        let items = hosts.iter().map(|host| document("Host", host)).collect::<Result<_, _>>()?;
        Ok(Response::new(Documents { items }))
    }

    async fn show(&self, request: Request<HostRef>) -> Result<Response<Document>, Status> {
        let name = self.known(&request.into_inner().host)?;
        self.shown(&name)
    }

    async fn label(&self, request: Request<LabelRequest>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let name = self.known(&wish.host)?;
        check_labels(&wish.set)?;
        self.change(&name, &caller, |record| {
            record.labels.extend(wish.set.clone());
            wish.remove.iter().for_each(|key| drop(record.labels.remove(key)));
            FleetEventBody::HostLabelled {
                host: name.clone(),
                set: wish.set.clone(),
                removed: wish.remove.clone(),
            }
        })
        .await?;
        self.shown(&name)
    }

    async fn cordon(&self, request: Request<CordonRequest>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let name = self.known(&wish.host)?;
        let reason = if wish.reason.is_empty() {
            format!("by {}", caller.name)
        } else {
            wish.reason
        };
        self.change(&name, &caller, |record| {
            record.cordoned = wish.cordoned.then(|| reason.clone());
            FleetEventBody::HostCordoned {
                host: name.clone(),
                cordoned: wish.cordoned,
                reason: reason.clone(),
            }
        })
        .await?;
        self.shown(&name)
    }

    async fn verify(&self, request: Request<HostRef>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let name = self.known(&request.into_inner().host)?;
        self.audit_late(&caller, "Hosts/Verify", name.as_str());
        self.0.runs.verify(&name).await.map_err(ApiError::from)?;
        self.shown(&name)
    }

    async fn doctor(&self, request: Request<HostRef>) -> Result<Response<Documents>, Status> {
        let named = request.into_inner().host;
        let names = if named.is_empty() {
            self.0.voice.hosts().into_iter().map(|host| host.name).collect()
        } else {
            vec![self.known(&named)?]
        };
        let mut asked = tokio::task::JoinSet::new();
        for name in names {
            let voice = self.0.voice.clone();
            asked.spawn(async move {
                let told = voice.doctor(&name).await;
                // The host's own word for itself gives way to the name that the controller knows it by.
                let named = told.map(|doctor| HostDoctor {
                    host: name.to_string(),
                    ..doctor
                });
                named.unwrap_or_else(|error| HostDoctor::unasked(name.as_str(), error.to_string()))
            });
        }
        let mut doctors = asked.join_all().await;
        doctors.sort_by(|a, b| a.host.cmp(&b.host));
        let items = doctors
            .iter()
            .map(|doctor| document("HostDoctor", doctor))
            .collect::<Result<_, _>>()?;
        Ok(Response::new(Documents { items }))
    }

    async fn accept(&self, request: Request<AcceptRequest>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let name = self.known(&wish.host)?;
        if wish.reason.trim().is_empty() {
            return Err(ApiError::new("usage", "accepting a host needs its reason").into());
        }
        self.0
            .voice
            .accept(&name, &caller.name, &wish.reason)
            .await
            .map_err(|e| ApiError::new("host_lost", e.to_string()))?;
        self.change(&name, &caller, |record| {
            record.cleanliness = Cleanliness::Clean;
            record.residue.clear();
            FleetEventBody::HostAccepted {
                host: name.clone(),
                reason: wish.reason.clone(),
            }
        })
        .await?;
        self.shown(&name)
    }

    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let name = self.known(&wish.host)?;
        if wish.locked && wish.reason.trim().is_empty() {
            caller.concerns(name.as_str());
            return Err(ApiError::new("usage", "locking a host needs its reason").into());
        }
        self.refuse_removed(&name)?;
        if wish.locked {
            self.cut_off(&name, &wish.reason);
        }
        self.change(&name, &caller, |record| {
            record.membership = if wish.locked { Membership::Locked } else { Membership::Enrolled };
            record.locked = wish.locked.then(|| wish.reason.clone());
            FleetEventBody::HostLocked {
                host: name.clone(),
                locked: wish.locked,
                reason: wish.reason.clone(),
            }
        })
        .await
        .map_err(|error| if wish.locked { unstored_lock(&name, &error) } else { error })?;
        self.shown(&name)
    }
}

fn unstored_lock(name: &HostName, error: &ApiError) -> ApiError {
    let why = &error.0.message;
    ApiError::new(
        "store",
        format!(
            "host {name} is locked and cut off, but only until the controller restarts: {why}; lock it again once the store can be written"
        ),
    )
}

impl Api {
    /// A host by its name, or an error that suggests the nearest one.
    fn known(&self, text: &str) -> ApiResult<HostName> {
        let hosts = self.0.voice.hosts();
        if let Some(host) = hosts.iter().find(|h| h.name.as_str() == text) {
            return Ok(host.name.clone());
        }
        Err(not_found("host", text, hosts.iter().map(|h| h.name.as_str())))
    }

    /// In force before anything is written: a locked host's sessions end now, whatever becomes of the record.
    fn cut_off(&self, name: &HostName, reason: &str) {
        self.0.voice.lock(name, reason);
    }

    /// Unlocking must not bring back a host that was removed.
    fn refuse_removed(&self, name: &HostName) -> ApiResult<()> {
        let removed = self
            .0
            .voice
            .hosts()
            .iter()
            .any(|h| &h.name == name && h.membership == Membership::Removed);
        match removed {
            true => Err(ApiError::new(
                "refused",
                format!("host {name} is removed; it may do nothing already"),
            )),
            false => Ok(()),
        }
    }

    fn shown(&self, name: &HostName) -> Result<Response<Document>, Status> {
        let hosts = self.0.voice.hosts();
        let host = hosts
            .iter()
            .find(|h| &h.name == name)
            .ok_or_else(|| ApiError::new("not_found", format!("no host named {name}")))?;
        Ok(Response::new(Document {
            json: document("Host", host)?,
        }))
    }

    /// Changes what is stored about a host, together with its line in the fleet log, and tells the dispatcher.
    async fn change(&self, name: &HostName, caller: &Caller, edit: impl FnOnce(&mut HostRecord) -> FleetEventBody) -> ApiResult<()> {
        caller.concerns(name.as_str());
        let _turn = self.0.changing.lock().await;
        let records: BTreeMap<HostName, HostRecord> = self.0.store.hosts().await?.into_iter().map(|r| (r.name.clone(), r)).collect();
        let mut record = records
            .get(name)
            .cloned()
            .ok_or_else(|| ApiError::new("not_found", format!("no host named {name}")))?;
        let event = edit(&mut record);
        self.0.store.put_host(&record, event, &caller.actor(), self.now()).await?;
        self.0.voice.refresh(name).await;
        Ok(())
    }
}
