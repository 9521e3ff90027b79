//! Operators' tokens: made once, shown once, stored as a hash; each with one role, expiring, revocable.

use controller_store::{OperatorRecord, hash_secret};
use proto_model::document::OperatorDocument;
use proto_model::quantity::Millis;
use proto_model::role::Role;
use proto_transport::{OperatorToken, is_operator};
use proto_wire::v1::operators_server::Operators;
use proto_wire::v1::{Documents, OperatorCreateReply, OperatorCreateRequest, OperatorRef, OperatorsListRequest};
use tonic::{Request, Response, Status, async_trait};

use crate::error::{ApiError, ApiResult};
use crate::service::{Api, caller, document};

/// The longest an operator's token may live: 90 days.
const MAX_TTL_MS: u64 = 90 * 24 * 3_600_000;

#[async_trait]
impl Operators for Api {
    async fn create(&self, request: Request<OperatorCreateRequest>) -> Result<Response<OperatorCreateReply>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        let role = check(&wish)?;
        caller.concerns(format!("{} ({role})", wish.name));
        let (now, token) = (self.now(), OperatorToken::generate());
        let record = OperatorRecord {
            id: token.id.clone(),
            name: wish.name,
            role,
            secret_hash: hash_secret(&token.secret),
            created_at: now,
            expires_at: now.plus_ms(wish.ttl_ms),
            revoked: false,
            created_by: caller.name.clone(),
            last_used: None,
        };
        let document_json = document("Operator", &shown(&record))?;
        self.0.keyring.add(record, &caller.actor()).await.map_err(ApiError::from)?;
        Ok(Response::new(OperatorCreateReply {
            token: token.to_string(),
            document_json,
        }))
    }

    async fn list(&self, _request: Request<OperatorsListRequest>) -> Result<Response<Documents>, Status> {
        self.documents(&self.0.keyring.all())
    }

    async fn revoke(&self, request: Request<OperatorRef>) -> Result<Response<Documents>, Status> {
        let caller = caller(&request)?;
        let text = request.into_inner().id;
        caller.concerns(&text);
        let revoked = self.0.keyring.revoke(&text, &caller.actor(), self.now()).await;
        self.documents(&revoked.map_err(ApiError::from)?)
    }
}

impl Api {
    fn documents(&self, records: &[OperatorRecord]) -> Result<Response<Documents>, Status> {
        let items = records.iter().map(|record| document("Operator", &shown(record)));
        let items = items.collect::<ApiResult<_>>()?;
        Ok(Response::new(Documents { items }))
    }
}

fn check(wish: &OperatorCreateRequest) -> ApiResult<Role> {
    if !is_operator(&wish.name) {
        let message = format!(
            "{:?} is no operator's name: expected 1 to 63 of letters, digits, '-', '.', '_' and '@', not ending in @local",
            wish.name
        );
        return Err(ApiError::new("usage", message));
    }
    if !(1_000..=MAX_TTL_MS).contains(&wish.ttl_ms) {
        return Err(ApiError::new(
            "usage",
            format!("ttl: {} is out of range (allowed: 1s..90d)", Millis(wish.ttl_ms)),
        ));
    }
    Role::parse(&wish.role).map_err(|error| ApiError::new("usage", error.to_string()))
}

fn shown(record: &OperatorRecord) -> OperatorDocument {
    OperatorDocument {
        id: record.id.to_string(),
        name: record.name.clone(),
        role: record.role,
        created_at: record.created_at,
        expires_at: record.expires_at,
        revoked: record.revoked,
        created_by: record.created_by.clone(),
        last_used: record.last_used,
    }
}
