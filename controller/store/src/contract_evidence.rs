//! What every store must keep of services and publications: part of the contract suite.

use proto_model::event::FleetEventBody;
use proto_model::evidence::Publication;
use proto_model::service::ServiceRecord;
use proto_model::time::Timestamp;

use crate::records::{Actor, StoreError};
use crate::store::Store;

type Make<'a> = &'a dyn Fn() -> Box<dyn Store>;

fn actor() -> Actor {
    Actor {
        by: "root@local".into(),
        address: "local".into(),
    }
}

fn service(name: &str, text: &str) -> ServiceRecord {
    ServiceRecord {
        name: name.into(),
        text: text.into(),
        digest: proto_model::id::sha256_text(text.as_bytes()),
        applied_at: Timestamp(7),
        applied_by: "root@local".into(),
    }
}

fn logged(store: &mut dyn Store) -> Vec<FleetEventBody> {
    store.fleet_events(10).unwrap().into_iter().map(|event| event.body).collect()
}

pub(crate) fn services_are_replaced_whole_and_logged(make: Make<'_>) {
    let mut store = make();
    assert_eq!(store.services().unwrap(), []);
    for (name, text) in [("web", "one"), ("cache", "two"), ("web", "three \u{2713}")] {
        store.put_service(&service(name, text), &actor()).unwrap();
    }
    assert_eq!(
        store.services().unwrap(),
        [service("cache", "two"), service("web", "three \u{2713}")]
    );
    store.remove_service("cache", &actor(), Timestamp(9)).unwrap();
    assert_eq!(store.services().unwrap(), [service("web", "three \u{2713}")]);
    let gone = store.remove_service("cache", &actor(), Timestamp(9));
    assert!(matches!(gone, Err(StoreError::NotFound { what: "service", .. })), "{gone:?}");
    let log = logged(store.as_mut());
    assert_eq!(log.len(), 4, "what changed nothing is not in the log");
    assert_eq!(log[3], FleetEventBody::ServiceRemoved { service: "cache".into() });
}

pub(crate) fn publications_are_only_added(make: Make<'_>) {
    let mut store = make();
    assert_eq!(store.publications().unwrap(), []);
    let publication = |at: i64| Publication {
        at: Timestamp(at),
        by: "root@local".into(),
        place: "/srv/site".into(),
        digest: "sha256:00".into(),
        points: [("web".to_owned(), 3)].into(),
    };
    for at in [5, 3, 5] {
        store.add_publication(&publication(at), &actor()).unwrap();
    }
    let kept: Vec<i64> = store.publications().unwrap().iter().map(|p| p.at.0).collect();
    assert_eq!(kept, [5, 3, 5], "in the order they were made");
    assert_eq!(store.publications().unwrap()[1], publication(3));
    assert!(matches!(&logged(store.as_mut())[2], FleetEventBody::Published { place, .. } if place == "/srv/site"));
}
