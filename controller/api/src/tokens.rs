//! Join tokens: made once, shown once, stored as a hash; counted, expiring, revocable.

use std::collections::BTreeMap;

use controller_store::TokenRecord;
use proto_model::document::TokenDocument;
use proto_model::id::{HostName, TokenId};
use proto_model::quantity::Millis;
use proto_model::selector;
use proto_transport::JoinToken;
use proto_wire::v1::tokens_server::Tokens;
use proto_wire::v1::{Document, Documents, TokenCreateReply, TokenCreateRequest, TokenRef, TokensListRequest};
use tonic::{Request, Response, Status, async_trait};

use crate::error::{ApiError, ApiResult};
use crate::service::{Api, caller, document};

/// The longest a join token may live: 7 days.
const MAX_TTL_MS: u64 = 7 * 24 * 3_600_000;
const MAX_USES: u32 = 100_000;

#[async_trait]
impl Tokens for Api {
    async fn create(&self, request: Request<TokenCreateRequest>) -> Result<Response<TokenCreateReply>, Status> {
        let caller = caller(&request)?;
        let wish = request.into_inner();
        check(&wish)?;
        let replaces = self.replaced_by(&wish)?;
        let now = self.now();
        let labels: Vec<String> = wish.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        caller.concerns(labels.join(" "));
        let token = JoinToken::generate(&self.0.authorities.current().fingerprint());
        let record = TokenRecord {
            id: token.id.clone(),
            secret_hash: controller_store::hash_secret(&token.secret),
            labels: wish.labels,
            uses: wish.uses,
            used: 0,
            created_at: now,
            expires_at: now.plus_ms(wish.ttl_ms),
            revoked: false,
            created_by: caller.name.clone(),
            replaces,
        };
        let put = record.clone();
        let actor = caller.actor();
        self.0
            .store
            .call(move |store| store.add_token(&put, &actor))
            .await
            .map_err(ApiError::from)?;
        let document_json = document("Token", &shown(&record))?;
        Ok(Response::new(TokenCreateReply {
            token: token.to_string(),
            document_json,
        }))
    }

    async fn list(&self, _request: Request<TokensListRequest>) -> Result<Response<Documents>, Status> {
        let tokens = self.0.store.call(|store| store.tokens()).await.map_err(ApiError::from)?;
        let items = tokens
            .iter()
            .map(|token| document("Token", &shown(token)))
            .collect::<Result<_, _>>()?;
        Ok(Response::new(Documents { items }))
    }

    async fn revoke(&self, request: Request<TokenRef>) -> Result<Response<Document>, Status> {
        let caller = caller(&request)?;
        let id = TokenId::parse(&request.into_inner().id).map_err(ApiError::from)?;
        caller.concerns(id.as_str());
        let (actor, now) = (caller.actor(), self.now());
        let token = self
            .0
            .store
            .call(move |store| store.revoke_token(&id, &actor, now))
            .await
            .map_err(ApiError::from)?;
        Ok(Response::new(Document {
            json: document("Token", &shown(&token))?,
        }))
    }
}

impl Api {
    /// The host whose place the token's bearer takes: a known one, once.
    fn replaced_by(&self, wish: &TokenCreateRequest) -> ApiResult<Option<HostName>> {
        if wish.replace.is_empty() {
            return Ok(None);
        }
        if wish.uses != 1 {
            return Err(ApiError::new(
                "usage",
                format!("uses is {}; a token that replaces a host has one use", wish.uses),
            ));
        }
        self.known(&wish.replace).map(Some)
    }
}

fn check(wish: &TokenCreateRequest) -> ApiResult<()> {
    if !(1..=MAX_USES).contains(&wish.uses) {
        return Err(ApiError::new("usage", format!("uses is {}; allowed: 1..{MAX_USES}", wish.uses)));
    }
    if !(1_000..=MAX_TTL_MS).contains(&wish.ttl_ms) {
        return Err(ApiError::new(
            "usage",
            format!("ttl: {} is out of range (allowed: 1s..7d)", Millis(wish.ttl_ms)),
        ));
    }
    check_labels(&wish.labels)
}

/// Keys and values as selectors can name them; `fact.` belongs to the hosts.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> ApiResult<()> {
    for (key, value) in labels {
        selector::key(key)
            .and_then(|_| selector::value(value))
            .map_err(|why| ApiError::new("usage", why))?;
        if key.starts_with("fact.") {
            return Err(ApiError::new(
                "usage",
                format!("label {key}: names beginning with \"fact.\" are what hosts say of themselves"),
            ));
        }
    }
    Ok(())
}

fn shown(token: &TokenRecord) -> TokenDocument {
    TokenDocument {
        id: token.id.to_string(),
        labels: token.labels.clone(),
        uses: token.uses,
        used: token.used,
        created_at: token.created_at,
        expires_at: token.expires_at,
        revoked: token.revoked,
        created_by: token.created_by.clone(),
        replaces: token.replaces.clone(),
    }
}
