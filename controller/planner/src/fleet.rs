//! The hosts as they are known when a plan is made: their catalogues, and what goes on there.

use std::collections::BTreeMap;

use controller_policy::{ActiveRun, Occupancy};
use proto_model::catalogue::Catalogue;
use proto_model::host::{Host, Membership};
use proto_model::plan::PlannedHost;

/// What is known of the hosts at this moment.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    pub hosts: Vec<Host>,
    /// By their digest, as hosts name them: most hosts of a fleet offer the same.
    pub catalogues: BTreeMap<String, Catalogue>,
    /// Runs not yet finished.
    pub active: Vec<ActiveRun>,
}

impl Fleet {
    /// The same hosts with nothing going on: for what is to be held against rules alone.
    pub fn at_rest(mut self) -> Self {
        self.active.clear();
        self.hosts.iter_mut().for_each(|host| host.active_injections = 0);
        self
    }

    /// What is injected on these hosts, or may be.
    pub fn occupancy(&self) -> Occupancy<'_> {
        Occupancy::new(&self.hosts, &self.active)
    }

    /// Hosts that are not removed.
    pub(crate) fn known(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.membership != Membership::Removed)
    }

    pub(crate) fn planned(&self, host: &Host) -> PlannedHost {
        PlannedHost {
            name: host.name.clone(),
            boot_id: host.facts.boot_id.clone(),
            catalogue_digest: host.catalogue_digest.clone(),
            labels: host.labels.clone(),
            source_address: host.source_address.clone(),
        }
    }
}
