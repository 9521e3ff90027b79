//! The audit log as administrators read it.

use proto_wire::v1::audit_server::Audit;
use proto_wire::v1::{AuditListRequest, Documents};
use tonic::{Request, Response, Status, async_trait};

use crate::error::{ApiError, ApiResult};
use crate::service::{Api, document};

/// Lines listed when nothing is said, and at most.
const DEFAULT_LIST: u32 = 100;
const MAX_LIST: u32 = 10_000;

#[async_trait]
impl Audit for Api {
    async fn list(&self, request: Request<AuditListRequest>) -> Result<Response<Documents>, Status> {
        let wish = request.into_inner();
        let limit = if wish.limit == 0 { DEFAULT_LIST } else { wish.limit.min(MAX_LIST) };
        let caller = Some(wish.caller).filter(|name| !name.is_empty());
        let entries = self.0.audit.newest(limit as usize, caller).await;
        let entries = entries.map_err(|error| ApiError::new("store", format!("read the audit log: {error}")))?;
        let items = entries
            .iter()
            .map(|entry| document("AuditEntry", entry))
            .collect::<ApiResult<_>>()?;
        Ok(Response::new(Documents { items }))
    }
}
