//! Freezes as operators see them: one by one, or a calendar's at once. They hold scheduled runs back and nobody else's.

use controller_scheduler::{FreezeWish, freeze_wish, parse_calendar};
use controller_store::FreezeRecord;
use proto_model::id::FreezeId;
use proto_model::problem::Problems;
use proto_model::schedule::FreezeDocument;
use proto_model::time::Timestamp;
use proto_wire::v1::freezes_server::Freezes;
use proto_wire::v1::{Document, Documents, FreezeAddRequest, FreezeRef, FreezesImportReply, FreezesImportRequest, FreezesListRequest};
use tonic::{Request, Response, Status, async_trait};

use crate::caller::Caller;
use crate::error::{ApiError, ApiResult};
use crate::service::{Api, caller, document};

const MAX_FREEZES: usize = 10_000;

#[async_trait]
impl Freezes for Api {
    async fn add(&self, request: Request<FreezeAddRequest>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let given = |text: &'_ str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let (environment, timezone) = (given(&wish.environment), given(&wish.timezone));
        let wish = freeze_wish(&wish.from, &wish.until, &wish.reason, environment.as_deref(), timezone.as_deref());
        let freeze = self.record(wish.map_err(|problems| invalid("usage", problems))?, None, &caller);
        self.audit(&caller, "Freezes/Add", freeze.id.as_str()).await?;
        self.change_freezes(vec![freeze.clone()], Vec::new(), &caller).await?;
        Ok(Response::new(Document {
            json: document("Freeze", &shown(&freeze, self.cadence_now()))?,
        }))
    }

    async fn list(&self, _request: Request<FreezesListRequest>) -> Result<Response<Documents>, Status> {
        let freezes = self.0.store.call(|store| store.freezes()).await.map_err(ApiError::from)?;
        let now = self.cadence_now();
        let items = freezes.iter().map(|freeze| document("Freeze", &shown(freeze, now)));
        Ok(Response::new(Documents {
            items: items.collect::<Result<_, _>>()?,
        }))
    }

    async fn remove(&self, request: Request<FreezeRef>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let id = FreezeId::parse(&request.into_inner().id).map_err(ApiError::from)?;
        let freezes = self.0.store.call(|store| store.freezes()).await.map_err(ApiError::from)?;
        let Some(freeze) = freezes.into_iter().find(|freeze| freeze.id == id) else {
            return Err(ApiError::new("not_found", format!("no freeze {id}; see `fracas freezes list`")).into());
        };
        self.audit(&caller, "Freezes/Remove", id.as_str()).await?;
        self.change_freezes(Vec::new(), vec![id], &caller).await?;
        Ok(Response::new(Document {
            json: document("Freeze", &shown(&freeze, self.cadence_now()))?,
        }))
    }

    async fn import(&self, request: Request<FreezesImportRequest>) -> Result<Response<FreezesImportReply>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let calendar = parse_calendar(&wish.file_text, &wish.file_name).map_err(|problems| invalid("invalid_file", problems))?;
        let freezes = self.0.store.call(|store| store.freezes()).await.map_err(ApiError::from)?;
        let here: Vec<FreezeRecord> = freezes
            .into_iter()
            .filter(|f| f.calendar.as_ref() == Some(&calendar.name))
            .collect();
        let kept = |freeze: &FreezeRecord| calendar.freezes.contains(&wished(freeze));
        let remove: Vec<FreezeId> = here.iter().filter(|freeze| !kept(freeze)).map(|freeze| freeze.id.clone()).collect();
        let new = calendar
            .freezes
            .iter()
            .filter(|wish| !here.iter().any(|freeze| &wished(freeze) == *wish));
        let add: Vec<FreezeRecord> = new.map(|wish| self.record(wish.clone(), Some(&calendar.name), &caller)).collect();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let reply = FreezesImportReply {
            calendar: calendar.name.clone(),
            added: count(add.len()),
            removed: count(remove.len()),
            unchanged: count(here.len() - remove.len()),
        };
        self.audit(&caller, "Freezes/Import", &calendar.name).await?;
        self.change_freezes(add, remove, &caller).await?;
        Ok(Response::new(reply))
    }
}

impl Api {
    fn record(&self, wish: FreezeWish, calendar: Option<&String>, caller: &Caller) -> FreezeRecord {
        FreezeRecord {
            id: FreezeId::generate(),
            from: wish.from,
            until: wish.until,
            reason: wish.reason,
            environment: wish.environment,
            calendar: calendar.cloned(),
            created_at: self.now(),
            created_by: caller.name.clone(),
        }
    }

    async fn change_freezes(&self, add: Vec<FreezeRecord>, remove: Vec<FreezeId>, caller: &Caller) -> ApiResult<()> {
        let store = &self.0.store;
        if store.call(|store| store.freezes()).await?.len() + add.len() > MAX_FREEZES {
            return Err(ApiError::new(
                "limit",
                format!("there may be {MAX_FREEZES} freezes; remove some first"),
            ));
        }
        let (actor, now) = (caller.actor(), self.now());
        Ok(store.call(move |store| store.change_freezes(&add, &remove, &actor, now)).await?)
    }
}

fn wished(freeze: &FreezeRecord) -> FreezeWish {
    FreezeWish {
        from: freeze.from,
        until: freeze.until,
        reason: freeze.reason.clone(),
        environment: freeze.environment.clone(),
    }
}

fn shown(freeze: &FreezeRecord, now: Timestamp) -> FreezeDocument {
    FreezeDocument {
        id: freeze.id.clone(),
        from: freeze.from,
        until: freeze.until,
        reason: freeze.reason.clone(),
        environment: freeze.environment.clone(),
        calendar: freeze.calendar.clone(),
        in_force: freeze.from <= now && now < freeze.until,
        created_at: freeze.created_at,
        created_by: freeze.created_by.clone(),
    }
}

fn invalid(code: &str, problems: Problems) -> ApiError {
    let mut error = ApiError::new(code, problems.to_string());
    error.0.problems = problems.0;
    error
}
