//! Hosts as operators see and mark them: list, label, cordon, ask for the proof again, answer for a dirty one.

use std::sync::Arc;

use controller_store::{HostRecord, Store};
use proto_model::doctor::HostDoctor;
use proto_model::event::FleetEventBody;
use proto_model::host::{Connection, Host, Membership};
use proto_model::id::HostName;
use proto_model::injection::Cleanliness;
use proto_model::selector::Selector;
use proto_wire::v1::hosts_server::Hosts;
use proto_wire::v1::{
    AcceptRequest, CordonRequest, Document, Documents, HostRef, HostsListRequest, LabelRequest, LockRequest, RemoveHostRequest,
};
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
        let mut hosts: Vec<Arc<Host>> = self
            .0
            .voice
            .hosts()
            .into_iter()
            .filter(|h| selector.matches(&h.name, &h.selectable()))
            .collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        let items = hosts.iter().map(|host| document("Host", host.as_ref())).collect::<Result<_, _>>()?;
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
        self.change(&name, &caller, move |record| {
            record.operator_labels.extend(wish.set.keys().chain(&wish.remove).cloned());
            record.labels.extend(wish.set.clone());
            wish.remove.iter().for_each(|key| drop(record.labels.remove(key)));
            FleetEventBody::HostLabelled {
                host: record.name.clone(),
                set: wish.set,
                removed: wish.remove,
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
        self.change(&name, &caller, move |record| {
            record.cordoned = wish.cordoned.then(|| reason.clone());
            FleetEventBody::HostCordoned {
                host: record.name.clone(),
                cordoned: wish.cordoned,
                reason,
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
            self.0.voice.hosts().iter().map(|host| host.name.clone()).collect()
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
        self.change(&name, &caller, move |record| {
            record.cleanliness = Cleanliness::Clean;
            record.residue.clear();
            FleetEventBody::HostAccepted {
                host: record.name.clone(),
                reason: wish.reason,
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
        let locked = wish.locked;
        if locked {
            self.cut_off(&name, &wish.reason);
        }
        self.change(&name, &caller, move |record| {
            record.membership = if wish.locked { Membership::Locked } else { Membership::Enrolled };
            record.locked = wish.locked.then(|| wish.reason.clone());
            FleetEventBody::HostLocked {
                host: record.name.clone(),
                locked: wish.locked,
                reason: wish.reason,
            }
        })
        .await
        .map_err(|error| if locked { unstored_lock(&name, &error) } else { error })?;
        self.shown(&name)
    }

    async fn remove(&self, request: Request<RemoveHostRequest>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let name = self.known(&wish.host)?;
        if wish.reason.trim().is_empty() {
            caller.concerns(name.as_str());
            return Err(ApiError::new("usage", "removing a host needs its reason").into());
        }
        if let (Some(owed), false) = (self.owed_by(&name).await?, wish.force) {
            caller.concerns(name.as_str());
            let hint = "stop it and let the host prove that it is clean, or remove it all the same with --force";
            return Err(ApiError::new("refused", format!("host {name} {owed}; {hint}")).into());
        }
        let shown = self.shown(&name)?;
        self.change(&name, &caller, move |record| {
            record.membership = Membership::Removed;
            FleetEventBody::HostRemoved {
                host: record.name.clone(),
                reason: wish.reason,
                forced: wish.force,
            }
        })
        .await?;
        Ok(shown)
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
    /// What still binds a host to a run: what acts there, or a proof that it has not given.
    async fn owed_by(&self, name: &HostName) -> ApiResult<Option<String>> {
        let of_runs = self.0.runs.leased().iter().filter(|leased| &leased.injection.host == name).count();
        let Some(host) = self.0.voice.host(name) else { return Ok(None) };
        if of_runs > 0 || host.active_injections > 0 {
            return Ok(Some("has active injections".to_owned()));
        }
        let known = match host.connection {
            Connection::Connected => host.cleanliness,
            // That a machine cannot be asked is no debt of it: what counts is what was known of it before.
            Connection::Lost => {
                let named = name.clone();
                let stored = self.0.store.call(move |store| store.host(&named)).await?;
                stored.map_or(Cleanliness::Clean, |record| record.cleanliness)
            }
        };
        Ok(match known {
            Cleanliness::Clean if !self.0.runs.owes_proof(name) => None,
            Cleanliness::Clean => Some("owes the proof of a run that is over".to_owned()),
            unclean => Some(format!("is {}", unclean.as_str())),
        })
    }

    /// A host by its name, or an error that suggests the nearest one.
    pub(crate) fn known(&self, text: &str) -> ApiResult<HostName> {
        if let Ok(name) = HostName::parse(text)
            && self.0.voice.host(&name).is_some()
        {
            return Ok(name);
        }
        let hosts = self.0.voice.hosts();
        Err(not_found("host", text, hosts.iter().map(|h| h.name.as_str())))
    }

    /// In force before anything is written: a locked host's sessions end now, whatever becomes of the record.
    fn cut_off(&self, name: &HostName, reason: &str) {
        self.0.voice.lock(name, reason);
    }

    fn shown(&self, name: &HostName) -> Result<Response<Document>, Status> {
        let host = self.0.voice.host(name);
        let host = host.ok_or_else(|| ApiError::new("not_found", format!("no host named {name}")))?;
        Ok(Response::new(Document {
            json: document("Host", host.as_ref())?,
        }))
    }

    /// Changes what is stored about a host, together with its line in the fleet log, and tells the dispatcher.
    async fn change(
        &self,
        name: &HostName,
        caller: &Caller,
        edit: impl FnOnce(&mut HostRecord) -> FleetEventBody + Send + 'static,
    ) -> ApiResult<()> {
        caller.concerns(name.as_str());
        let _turn = self.0.changing.lock().await;
        let (actor, now, host) = (caller.actor(), self.now(), name.clone());
        // Read and written in one call: nothing that the host itself causes comes between.
        let change = move |store: &mut dyn Store| -> ApiResult<()> {
            let mut record = store
                .host(&host)?
                .ok_or_else(|| ApiError::new("not_found", format!("no host named {host}")))?;
            let event = edit(&mut record);
            Ok(store.put_host(&record, event, &actor, now)?)
        };
        self.0.store.call(change).await?;
        self.0.voice.refresh(name).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proto_model::role::Role;

    use super::*;
    use crate::caller::Credential;
    use crate::http::tests::{NOW, World};

    fn ask<T>(body: T) -> Request<T> {
        let mut request = Request::new(body);
        let caller = Caller::new("root@local", "local".into(), Role::Administrator, Credential::Socket);
        request.extensions_mut().insert(caller);
        request
    }

    /// A world with one stored host.
    async fn world(cleanliness: Cleanliness) -> (World, HostName) {
        let (world, name) = (World::new().await, HostName::parse("web").unwrap());
        let record = HostRecord {
            name: name.clone(),
            labels: BTreeMap::from([("env".into(), "staging".into())]),
            operator_labels: BTreeSet::new(),
            facts: Default::default(),
            catalogue_digest: String::new(),
            membership: Membership::Enrolled,
            cordoned: None,
            locked: None,
            cleanliness,
            residue: Vec::new(),
            key_fingerprint: "k".into(),
            certificate_not_after: NOW,
            authority: Default::default(),
            enrolled_at: NOW,
            machine_since: NOW,
            last_boot_id: String::new(),
        };
        let event = FleetEventBody::HostEnrolled {
            host: name.clone(),
            token: "t".into(),
        };
        let actor = controller_store::Actor {
            by: "web".into(),
            address: String::new(),
        };
        world
            .api
            .0
            .store
            .call(move |store| store.put_host(&record, event, &actor, NOW))
            .await
            .unwrap();
        world.api.0.voice.refresh(&name).await;
        (world, name)
    }

    fn removal(reason: &str, force: bool) -> Request<RemoveHostRequest> {
        ask(RemoveHostRequest {
            host: "web".into(),
            reason: reason.into(),
            force,
        })
    }

    #[tokio::test]
    async fn a_host_that_owes_a_proof_is_removed_only_by_force_and_never_without_a_reason() {
        let (world, name) = world(Cleanliness::Unproven).await;
        let refused = world.api.remove(removal("gone", false)).await.unwrap_err();
        assert!(
            refused.message().contains("is unproven") && refused.message().contains("--force"),
            "{refused}"
        );
        assert!(world.api.remove(removal(" ", true)).await.is_err());
        assert!(world.api.0.voice.host(&name).is_some());
        world.api.remove(removal("burned down", true)).await.unwrap();
        assert!(world.api.0.voice.host(&name).is_none() && world.api.0.voice.hosts().is_empty());
        let stored = world.api.0.store.call(move |store| store.host(&name)).await.unwrap().unwrap();
        assert_eq!(
            stored.membership,
            Membership::Removed,
            "its record stays, so that its identity is known and refused"
        );
        let log = world.api.0.store.call(|store| store.fleet_events(1)).await.unwrap();
        assert!(matches!(&log[0].body, FleetEventBody::HostRemoved { reason, forced: true, .. } if reason == "burned down"));
    }

    #[tokio::test]
    async fn a_clean_host_is_removed_and_a_label_that_is_set_is_the_operators() {
        let (world, name) = world(Cleanliness::Clean).await;
        let label = LabelRequest {
            host: "web".into(),
            set: [("env".to_owned(), "production".to_owned())].into(),
            remove: vec!["role".into()],
        };
        world.api.label(ask(label)).await.unwrap();
        let wanted = name.clone();
        let stored = world.api.0.store.call(move |store| store.host(&wanted)).await.unwrap().unwrap();
        assert_eq!(stored.operator_labels, BTreeSet::from(["env".to_owned(), "role".to_owned()]));
        assert_eq!(world.api.0.voice.host(&name).unwrap().environment(), "production");
        world.api.remove(removal("replaced by web-2", false)).await.unwrap();
        assert!(world.api.0.voice.host(&name).is_none());
    }
}
