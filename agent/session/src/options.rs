//! What a session is told about its agent by the program that runs it.

use std::net::IpAddr;

use agent_probes::HostRules;
use proto_model::catalogue::Catalogue;
use proto_model::host::HostFacts;
use proto_model::time::Timestamp;

use crate::files::IdentityFolder;

/// The agent as its sessions describe it.
pub struct SessionOptions {
    pub identity: IdentityFolder,
    pub agent_version: String,
    pub catalogue: fn() -> Catalogue,
    /// Read anew for each session, and once a minute.
    pub facts: Box<dyn Fn() -> HostFacts + Send + Sync>,
    /// Those of the facts, which are looked at more often.
    pub addresses: Box<dyn Fn() -> Vec<IpAddr> + Send + Sync>,
    /// What probes may run and ask here.
    pub probe_rules: HostRules,
    /// The host's wall clock: only said, never believed.
    pub clock: fn() -> Timestamp,
}
