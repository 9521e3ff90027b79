//! The hosts that a plan is made for: by name, with their environments as they are declared. Built once per plan; it clones no host.

use std::collections::BTreeMap;

use controller_policy::Policy;
use proto_model::catalogue::Catalogue;
use proto_model::host::Host;
use proto_model::id::HostName;
use proto_model::plan::PlannedHost;

use crate::fleet::Fleet;
use crate::refusal::PlanRefusal;

pub(crate) struct Inventory<'a> {
    fleet: &'a Fleet,
    policy: &'a Policy,
    by_name: BTreeMap<&'a HostName, &'a Host>,
}

impl<'a> Inventory<'a> {
    pub fn new(fleet: &'a Fleet, policy: &'a Policy) -> Self {
        Self {
            fleet,
            policy,
            by_name: fleet.known().map(|host| (&host.name, host)).collect(),
        }
    }

    /// Hosts that are not removed, in the order of their names.
    pub fn known(&self) -> impl Iterator<Item = &'a Host> {
        self.by_name.values().copied()
    }

    pub fn named(&self, name: &HostName) -> Option<&'a Host> {
        self.by_name.get(name).copied()
    }

    pub fn environment_of(&self, host: &'a Host) -> &'a str {
        self.policy.environments().of(host)
    }

    /// The declared spelling of an environment's name, or a refusal that lists what is declared.
    pub fn declared(&self, environment: &str) -> Result<String, PlanRefusal> {
        Ok(self.policy.environments().require(environment)?.to_owned())
    }

    pub fn is_production(&self, environment: &str) -> bool {
        self.policy.is_production(environment)
    }

    pub fn catalogue(&self, host: &Host) -> Option<&'a Catalogue> {
        self.fleet.catalogues.get(&host.catalogue_digest)
    }

    /// Everything that any host offers.
    pub fn catalogues(&self) -> impl Iterator<Item = &'a Catalogue> {
        self.fleet.catalogues.values()
    }

    pub fn planned(&self, host: &Host) -> PlannedHost {
        self.fleet.planned(host)
    }
}
