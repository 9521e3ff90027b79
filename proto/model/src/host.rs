//! Hosts as the controller knows them: facts they state, labels people give, and four independent states.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::HostName;
use crate::injection::Cleanliness;
use crate::time::Timestamp;

/// The reserved label that places a host in an environment; without it a host counts as production.
pub const ENV_LABEL: &str = "env";
pub const PRODUCTION: &str = "production";

/// What a host says of itself. Never used to reach production.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    pub hostname: String,
    pub machine_id: String,
    pub boot_id: String,
    pub kernel: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    pub architecture: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// Global addresses of the host's interfaces.
    pub addresses: Vec<IpAddr>,
    /// `v1`, `v2` or `hybrid`.
    pub cgroups: String,
    pub agent_version: String,
    /// `systemd` or `none`.
    pub service_manager: String,
}

impl HostFacts {
    /// As selector keys under `fact.`.
    pub fn as_labels(&self) -> BTreeMap<String, String> {
        [
            ("fact.hostname", self.hostname.clone()),
            ("fact.kernel", self.kernel.clone()),
            ("fact.architecture", self.architecture.clone()),
            ("fact.cpus", self.cpus.to_string()),
            ("fact.cgroups", self.cgroups.clone()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    Connected,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    Open,
    Cordoned,
    Halted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    Enrolled,
    Locked,
    Removed,
}

/// Which authorities a host trusts, by SHA-256 of their certificates, and which one its own certificate is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAuthority {
    /// As it said itself; nothing where an older agent says nothing.
    pub trusts: Vec<String>,
    /// Empty where that is not known.
    pub certificate_of: String,
}

/// One host as the fleet holds it; also the JSON document `Host`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub name: HostName,
    pub labels: BTreeMap<String, String>,
    /// Shared by all who hold the same: there are thousands of hosts.
    pub facts: Arc<HostFacts>,
    pub connection: Connection,
    pub cleanliness: Cleanliness,
    pub availability: Availability,
    pub membership: Membership,
    /// Residue, or why it is cordoned or halted.
    pub note: Option<String>,
    pub catalogue_digest: String,
    /// Injections on it now.
    pub active_injections: u32,
    pub enrolled_at: Timestamp,
    pub last_seen: Option<Timestamp>,
    pub certificate_not_after: Option<Timestamp>,
    /// The address its session comes from.
    pub source_address: Option<String>,
    /// How far its wall clock was ahead of the controller's as its session began; negative when behind.
    #[serde(default)]
    pub clock_offset_ms: Option<i64>,
    #[serde(default)]
    pub authority: HostAuthority,
}

impl Host {
    pub fn environment(&self) -> &str {
        self.labels.get(ENV_LABEL).map_or(PRODUCTION, String::as_str)
    }

    /// Labels and facts, as selectors see them.
    pub fn selectable(&self) -> BTreeMap<String, String> {
        let mut all = self.facts.as_labels();
        all.extend(self.labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        all
    }

    /// Connected, not dirty, not cordoned or halted, under no injection.
    pub fn is_healthy(&self) -> bool {
        self.connection == Connection::Connected
            && self.cleanliness == Cleanliness::Clean
            && self.availability == Availability::Open
            && self.membership == Membership::Enrolled
            && self.active_injections == 0
    }
}
