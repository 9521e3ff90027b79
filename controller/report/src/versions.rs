//! What ran on each host of a run, as its preflight said; a host that was never asked is not in it.

use std::collections::BTreeMap;

use proto_model::event::{Event, EventBody};
use proto_model::id::HostName;

/// One host's programs at the time of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostVersions {
    pub host: HostName,
    pub agent: String,
    pub kernel: String,
}

/// The last word of each host, in the order of their names.
pub fn versions(events: &[Event]) -> Vec<HostVersions> {
    let mut found = BTreeMap::new();
    for event in events {
        if let EventBody::HostPreflight {
            host,
            agent_version,
            kernel,
            ..
        } = &event.body
        {
            let versions = HostVersions {
                host: host.clone(),
                agent: agent_version.clone(),
                kernel: kernel.clone(),
            };
            found.insert(host.clone(), versions);
        }
    }
    found.into_values().collect()
}
