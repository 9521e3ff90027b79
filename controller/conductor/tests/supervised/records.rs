//! What a store keeps of a host that has done nothing yet.

use std::collections::{BTreeMap, BTreeSet};

use controller_store::HostRecord;
use proto_model::host::Membership;
use proto_model::id::HostName;
use proto_model::injection::Cleanliness;
use proto_model::time::Timestamp;

pub fn record(name: &HostName) -> HostRecord {
    HostRecord {
        name: name.clone(),
        labels: BTreeMap::new(),
        facts: Default::default(),
        catalogue_digest: String::new(),
        operator_labels: BTreeSet::new(),
        membership: Membership::Enrolled,
        cordoned: None,
        locked: None,
        cleanliness: Cleanliness::Clean,
        residue: vec![],
        key_fingerprint: String::new(),
        certificate_not_after: Timestamp(0),
        authority: Default::default(),
        enrolled_at: Timestamp(0),
        machine_since: Timestamp(0),
        last_boot_id: String::new(),
    }
}
