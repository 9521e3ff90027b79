//! What every store keeps of hosts and of what they can do.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::catalogue::Catalogue;
use proto_model::event::FleetEventBody;
use proto_model::host::{HostFacts, Membership};
use proto_model::id::HostName;
use proto_model::injection::Cleanliness;
use proto_model::time::Timestamp;

use super::given::{Make, actor};
use crate::records::HostRecord;
use crate::store::Store;

pub(super) const CHECKS: &[fn(Make<'_>)] = &[hosts_are_replaced_whole_and_logged, a_catalogue_is_kept_as_long_as_a_host_has_it];

fn a_host(name: &str) -> HostRecord {
    HostRecord {
        name: HostName::parse(name).unwrap(),
        labels: BTreeMap::from([("role".into(), "web".into())]),
        facts: std::sync::Arc::new(HostFacts {
            memory_bytes: u64::MAX,
            addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            ..HostFacts::default()
        }),
        catalogue_digest: "sha256:c".into(),
        operator_labels: BTreeSet::from(["role".into()]),
        membership: Membership::Enrolled,
        cordoned: None,
        locked: None,
        cleanliness: Cleanliness::Clean,
        residue: Vec::new(),
        key_fingerprint: "sha256:k".into(),
        certificate_not_after: Timestamp(100),
        authority: Default::default(),
        enrolled_at: Timestamp(1),
        machine_since: Timestamp(0),
        last_boot_id: "boot".into(),
    }
}

fn a_catalogue_is_kept_as_long_as_a_host_has_it(make: Make<'_>) {
    let mut store = make();
    let catalogues = ["cpu.burn", "memory.hog"].map(|kind| {
        let kind = serde_json::json!({
            "kind": kind, "summary": "", "aliases": [], "reversal": { "kind": "full" }, "duration": "required", "params": {},
            "examples": [], "measured_by": "", "undone_by": ""
        });
        serde_json::from_value::<Catalogue>(serde_json::json!([kind])).unwrap()
    });
    let put = |store: &mut dyn Store, name: &str, catalogue: &Catalogue| {
        let host = HostRecord {
            catalogue_digest: catalogue.digest(),
            ..a_host(name)
        };
        let event = FleetEventBody::HostEnrolled {
            host: host.name.clone(),
            token: "t".into(),
        };
        store.put_catalogue(catalogue).unwrap();
        store.put_host(&host, event, &actor(), Timestamp(1)).unwrap();
    };
    put(store.as_mut(), "web", &catalogues[0]);
    put(store.as_mut(), "cache", &catalogues[0]);
    assert_eq!(store.catalogues().unwrap(), catalogues[..1]);
    put(store.as_mut(), "web", &catalogues[1]);
    assert_eq!(store.catalogues().unwrap().len(), 2);
    put(store.as_mut(), "cache", &catalogues[1]);
    assert_eq!(store.catalogues().unwrap(), catalogues[1..]);
}

fn hosts_are_replaced_whole_and_logged(make: Make<'_>) {
    let mut store = make();
    let (mut web, cache) = (a_host("web"), a_host("cache"));
    for host in [&web, &cache] {
        let event = FleetEventBody::HostEnrolled {
            host: host.name.clone(),
            token: "t".into(),
        };
        store.put_host(host, event, &actor(), Timestamp(1)).unwrap();
    }
    assert_eq!(store.hosts().unwrap(), [cache.clone(), web.clone()]);
    web.cordoned = Some("disk swap".into());
    web.cleanliness = Cleanliness::Dirty;
    web.residue = vec!["a rule".into()];
    let event = FleetEventBody::HostCordoned {
        host: web.name.clone(),
        cordoned: true,
        reason: "disk swap".into(),
    };
    store.put_host(&web, event.clone(), &actor(), Timestamp(2)).unwrap();
    assert_eq!(store.host(&web.name).unwrap(), Some(web.clone()));
    assert_eq!(store.host(&HostName::parse("unknown").unwrap()).unwrap(), None);
    assert_eq!(store.hosts().unwrap(), [cache, web]);
    let log = store.fleet_events(10).unwrap();
    assert_eq!((log.len(), log[2].seq, log[2].at, &log[2].body), (3, 3, Timestamp(2), &event));
    assert_eq!((log[2].by.as_str(), log[2].address.as_str()), ("root@local", "local"));
}
