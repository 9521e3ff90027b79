//! What a host states of itself, and how clean it is.

use proto_model::host::HostFacts;
use proto_model::injection::Cleanliness;

use super::field::{ConvertError, enums};
use crate::v1;

enums!(Cleanliness, v1::Cleanliness, cleanliness, "cleanliness": Clean, Faulted, Unproven, Dirty);

impl From<&HostFacts> for v1::HostFacts {
    fn from(facts: &HostFacts) -> Self {
        let facts = facts.clone();
        Self {
            hostname: facts.hostname,
            machine_id: facts.machine_id,
            boot_id: facts.boot_id,
            kernel: facts.kernel,
            os: facts.os,
            architecture: facts.architecture,
            cpus: facts.cpus,
            memory_bytes: facts.memory_bytes,
            addresses: facts.addresses.iter().map(ToString::to_string).collect(),
            cgroups: facts.cgroups,
            agent_version: facts.agent_version,
            service_manager: facts.service_manager,
        }
    }
}

impl TryFrom<v1::HostFacts> for HostFacts {
    type Error = ConvertError;

    fn try_from(facts: v1::HostFacts) -> Result<Self, ConvertError> {
        let address = |text: &String| {
            text.parse()
                .map_err(|_| ConvertError::invalid("facts.addresses", format!("{text:?} is no address")))
        };
        Ok(Self {
            addresses: facts.addresses.iter().map(address).collect::<Result<_, _>>()?,
            hostname: facts.hostname,
            machine_id: facts.machine_id,
            boot_id: facts.boot_id,
            kernel: facts.kernel,
            os: facts.os,
            architecture: facts.architecture,
            cpus: facts.cpus,
            memory_bytes: facts.memory_bytes,
            cgroups: facts.cgroups,
            agent_version: facts.agent_version,
            service_manager: facts.service_manager,
        })
    }
}

/// A message's facts, which must be there.
pub fn facts_or_missing(facts: Option<v1::HostFacts>) -> Result<HostFacts, ConvertError> {
    facts.ok_or(ConvertError::Missing { field: "facts" })?.try_into()
}
