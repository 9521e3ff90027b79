//! What a session is told about its agent by the program that runs it.

use std::path::PathBuf;

use agent_probes::Commands;
use proto_model::catalogue::Catalogue;
use proto_model::host::HostFacts;
use proto_model::time::Timestamp;

/// The agent as its sessions describe it.
pub struct SessionOptions {
    pub state_dir: PathBuf,
    pub agent_version: String,
    pub catalogue: fn() -> Catalogue,
    /// Read anew for each session.
    pub facts: Box<dyn Fn() -> HostFacts + Send + Sync>,
    /// What command probes may run here.
    pub commands: Commands,
    /// The host's wall clock: only said, never believed.
    pub clock: fn() -> Timestamp,
}
