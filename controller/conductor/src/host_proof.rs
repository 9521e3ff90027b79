//! What a host proved in a run, on its way from the run to what is kept of the host.

use proto_model::id::{HostName, RunId};
use proto_model::injection::CleanProof;

/// What a host proved in a run.
#[derive(Debug)]
pub(crate) struct HostProof {
    pub run: RunId,
    pub host: HostName,
    pub proof: CleanProof,
}
