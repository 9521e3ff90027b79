//! What runs are worth, as operators ask it: services, levels, the site, and the record that it was delivered. Nothing is typed that can be computed.

use std::sync::Arc;

use controller_evidence::{Evidence as Weighed, Shown, parse_service, weigh};
use proto_model::document::ErrorBody;
use proto_model::evidence::{Levels, Publication};
use proto_model::id::{RunId, sha256_text};
use proto_model::service::{ServiceDocument, ServiceRecord};
use proto_wire::v1::evidence_server::Evidence;
use proto_wire::v1::{
    Document, Documents, LevelsRequest, PagesRequest, PublishRequest, ServiceApplyRequest, ServiceRef, ServiceReply, ServicesListRequest,
    SiteFile, SiteRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

use crate::error::{ApiError, ApiResult, not_found};
use crate::publishing::{Delivery, READER_WITHIN, pass};
use crate::service::{Api, caller, document};

/// Files of a site on their way to a slow reader.
const SITE_BUFFER: usize = 8;
const PLACE_LENGTH: usize = 1_000;
const PAGES_AT_ONCE: usize = 1_000;

#[async_trait]
impl Evidence for Api {
    async fn apply_service(&self, request: Request<ServiceApplyRequest>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let service = parse_service(&wish.file_text, &wish.file_name).map_err(|problems| {
            let mut body = ErrorBody::new("invalid_file", problems.to_string());
            body.problems = problems.0;
            ApiError(body)
        })?;
        let record = ServiceRecord {
            name: service.name.clone(),
            digest: sha256_text(wish.file_text.as_bytes()),
            text: wish.file_text,
            applied_at: self.now(),
            applied_by: caller.name.clone(),
        };
        // The same file again changes nothing, so that a pipeline may apply it each time.
        let known = self.0.store.call(|store| store.services()).await.map_err(ApiError::from)?;
        let kept = match known
            .into_iter()
            .find(|known| known.name == record.name && known.digest == record.digest)
        {
            Some(known) => known,
            None => {
                let put = record.clone();
                let actor = caller.actor();
                self.0
                    .store
                    .call(move |store| store.put_service(&put, &actor))
                    .await
                    .map_err(ApiError::from)?;
                record
            }
        };
        let json = document("Service", &shown(&kept)?)?;
        Ok(Response::new(Document { json }))
    }

    async fn list_services(&self, _: Request<ServicesListRequest>) -> Result<Response<Documents>, Status> {
        let records = self.0.store.call(|store| store.services()).await.map_err(ApiError::from)?;
        let items = records.iter().map(|record| document("Service", &shown(record)?));
        Ok(Response::new(Documents {
            items: items.collect::<ApiResult<_>>()?,
        }))
    }

    async fn show_service(&self, request: Request<ServiceRef>) -> Result<Response<ServiceReply>, Status> {
        let record = self.service_record(&request.into_inner().service).await?;
        Ok(Response::new(ServiceReply {
            json: document("Service", &shown(&record)?)?,
            file_text: record.text,
        }))
    }

    async fn remove_service(&self, request: Request<ServiceRef>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let record = self.service_record(&request.into_inner().service).await?;
        let name = record.name.to_owned();
        let (actor, now) = (caller.actor(), self.now());
        let removed = self.0.store.call(move |store| store.remove_service(&name, &actor, now)).await;
        removed.map_err(ApiError::from)?;
        let json = document("Service", &shown(&record)?)?;
        Ok(Response::new(Document { json }))
    }

    async fn levels(&self, request: Request<LevelsRequest>) -> Result<Response<Documents>, Status> {
        let name = request.into_inner().service;
        let records = if name.is_empty() {
            self.0.store.call(|store| store.services()).await.map_err(ApiError::from)?
        } else {
            vec![self.service_record(&name).await?]
        };
        let publications = self.0.store.call(|store| store.publications()).await.map_err(ApiError::from)?;
        self.read_outdated().await?;
        let mut items = Vec::with_capacity(records.len());
        for record in &records {
            items.push(document("Levels", &self.weighed(record, &publications).await?)?);
        }
        Ok(Response::new(Documents { items }))
    }

    type SiteStream = ReceiverStream<Result<SiteFile, Status>>;

    async fn site(&self, request: Request<SiteRequest>) -> Result<Response<Self::SiteStream>, Status> {
        let services = self.services_shown().await?;
        let (sender, receiver) = mpsc::channel(SITE_BUFFER);
        let api = self.clone();
        let to = Delivery::of(request.into_inner(), sender.clone());
        tokio::spawn(async move {
            if let Err(error) = api.send_site(&services, &to).await {
                // A reader that is gone, or takes nothing, needs no answer.
                let _ = pass(&sender, Err(error.into()), READER_WITHIN).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type PagesStream = ReceiverStream<Result<SiteFile, Status>>;

    async fn pages(&self, request: Request<PagesRequest>) -> Result<Response<Self::PagesStream>, Status> {
        let runs = request.into_inner().runs;
        if runs.len() > PAGES_AT_ONCE {
            let message = format!(
                "pages of {} runs were asked for; ask for at most {PAGES_AT_ONCE} at a time",
                runs.len()
            );
            return Err(ApiError::new("usage", message).into());
        }
        let ids: Result<Arc<[RunId]>, _> = runs.iter().map(|run| RunId::parse(run)).collect();
        let ids = ids.map_err(|error| ApiError::new("usage", error.to_string()))?;
        let (sender, receiver) = mpsc::channel(SITE_BUFFER);
        let api = self.clone();
        tokio::spawn(async move {
            if let Err(error) = api.send_pages(ids, &sender).await {
                let _ = pass(&sender, Err(error.into()), READER_WITHIN).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        if wish.place.trim().is_empty() || wish.place.len() > PLACE_LENGTH {
            return Err(ApiError::new("usage", format!("a publication needs its place in 1 to {PLACE_LENGTH} characters")).into());
        }
        let services = self.services_shown().await?;
        let parts = self.parts(&services, None).await?;
        let site = parts.site(&services);
        let digest = site.digest();
        if digest != wish.digest {
            let message = "the log has gone on since the site was made, so that it is not what would be recorded; publish again";
            return Err(ApiError::new("refused", message).into());
        }
        let publication = Publication {
            at: self.now(),
            by: caller.name.clone(),
            place: wish.place,
            digest,
            points: site.points(),
        };
        let added = publication.clone();
        let actor = caller.actor();
        let added = self.0.store.call(move |store| store.add_publication(&added, &actor)).await;
        added.map_err(ApiError::from)?;
        let json = document("Publication", &publication)?;
        Ok(Response::new(Document { json }))
    }
}

fn shown(record: &ServiceRecord) -> ApiResult<ServiceDocument> {
    let service = parse_service(&record.text, &record.name).map_err(|problems| unreadable(record, &problems))?;
    Ok(ServiceDocument {
        service,
        digest: record.digest.clone(),
        applied_at: record.applied_at,
        applied_by: record.applied_by.clone(),
    })
}

/// It was taken once, so an older version had other rules.
fn unreadable(record: &ServiceRecord, problems: &proto_model::problem::Problems) -> ApiError {
    let message = format!(
        "service {} was applied under other rules: {problems}; apply its file again",
        record.name
    );
    ApiError::new("refused", message)
}

impl Api {
    /// A service by its name, or an error that suggests the nearest one.
    async fn service_record(&self, name: &str) -> ApiResult<ServiceRecord> {
        let records = self.0.store.call(|store| store.services()).await?;
        if let Some(record) = records.iter().find(|record| record.name == name) {
            return Ok(record.clone());
        }
        Err(not_found("service", name, records.iter().map(|record| record.name.as_str())))
    }

    pub(crate) async fn services_shown(&self) -> ApiResult<Vec<Shown>> {
        let records = self.0.store.call(|store| store.services()).await?;
        let read = records.iter().map(|record| {
            let service = shown(record)?.service;
            Ok(Shown {
                service,
                applied_at: record.applied_at,
            })
        });
        read.collect()
    }

    async fn weighed(&self, record: &ServiceRecord, publications: &[Publication]) -> ApiResult<Levels> {
        let now = self.cadence_now();
        let service = match parse_service(&record.text, &record.name) {
            Ok(service) => service,
            Err(problems) => {
                return Ok(Levels {
                    service: record.name.clone(),
                    level: 0,
                    at: now,
                    levels: Vec::new(),
                    problem: Some(unreadable(record, &problems).0.message),
                });
            }
        };
        let runs = self.selected(&service, now).await?;
        Ok(weigh(&Weighed {
            service: &service,
            runs: &runs,
            publications,
            now,
        }))
    }
}
