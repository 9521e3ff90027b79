//! Everything that a level is computed from.

use proto_model::evidence::Publication;
use proto_model::finished::FinishedRun;
use proto_model::service::Service;
use proto_model::time::Timestamp;

/// Everything that a level is computed from.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    pub service: &'a Service,
    /// All runs, of this service and of others.
    pub runs: &'a [FinishedRun],
    pub publications: &'a [Publication],
    pub now: Timestamp,
}
