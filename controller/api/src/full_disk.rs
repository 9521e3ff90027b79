//! Tests of the calls that end harm on a store that refuses every write: none of them is refused, and what is missing is recorded later.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use controller_conductor::{HostGateway, Settings, Supervisor, SupervisorParts};
use controller_dispatcher::{Dispatcher, DispatcherParts, DispatcherSettings, HaltLatch};
use controller_policy::Policy;
use controller_scheduler::Scheduler;
use controller_store::{Actor, HostRecord, SqliteStore, StoreHandle};
use proto_model::event::FleetEventBody;
use proto_model::host::Membership;
use proto_model::id::{HostName, InjectionId};
use proto_model::injection::Cleanliness;
use proto_model::role::Role;
use proto_model::time::Timestamp;
use proto_probes::AddressRule;
use proto_transport::{AUTHORITY_LIFE_MS, Authorities, IssuedList};
use proto_wire::v1::emergency_server::Emergency;
use proto_wire::v1::hosts_server::Hosts;
use proto_wire::v1::runs_server::Runs;
use proto_wire::v1::{HaltRequest, HostRef, LockRequest, StopRequest};
use tonic::Request;

use crate::audit::AuditLog;
use crate::caller::{Caller, Credential};
use crate::glances::Glances;
use crate::keyring::Keyring;
use crate::service::{Api, ApiParts};

const NOW: Timestamp = Timestamp(1_000_000_000);
const WITHIN: Duration = Duration::from_secs(10);

fn stored_host() -> HostRecord {
    HostRecord {
        name: HostName::parse("web").unwrap(),
        labels: BTreeMap::new(),
        facts: Default::default(),
        operator_labels: Default::default(),
        catalogue_digest: String::new(),
        membership: Membership::Enrolled,
        cordoned: None,
        locked: None,
        cleanliness: Cleanliness::Clean,
        residue: Vec::new(),
        key_fingerprint: String::new(),
        certificate_not_after: NOW,
        authority: Default::default(),
        enrolled_at: NOW,
        machine_since: NOW,
        last_boot_id: String::new(),
    }
}

async fn api(folder: &Path) -> Api {
    let store = StoreHandle::spawn(Box::new(SqliteStore::open(folder.join("store.db")).unwrap()));
    let actor = Actor {
        by: "web".into(),
        address: String::new(),
    };
    let host = stored_host();
    let event = FleetEventBody::HostEnrolled {
        host: host.name.clone(),
        token: String::new(),
    };
    store.call(move |store| store.put_host(&host, event, &actor, NOW)).await.unwrap();
    let latch = Arc::new(HaltLatch::open(
        &folder.join("halted"),
        store.call(|store| store.halt()).await.unwrap(),
    ));
    let known = Arc::default();
    let authorities = Arc::new(Authorities::open_or_create(&folder.join("authority"), AUTHORITY_LIFE_MS, NOW).unwrap());
    let dispatcher = Dispatcher::new(DispatcherParts {
        store: store.clone(),
        authorities: authorities.clone(),
        latch: latch.clone(),
        said: tokio::sync::mpsc::channel(8).0,
        known: Arc::clone(&known),
        settings: DispatcherSettings::default(),
        now: || NOW,
    });
    let voice: Arc<dyn HostGateway> = Arc::new(dispatcher.await.unwrap());
    let runs = Supervisor::new(SupervisorParts {
        store: store.clone(),
        voice: voice.clone(),
        latch,
        known,
        policy: Policy::default(),
        rule: AddressRule::anything(),
        settings: Settings::default(),
        clock: controller_conductor::RunClock::new(|| NOW),
    });
    Api::new(ApiParts {
        voice,
        runs,
        keyring: Keyring::load(store.clone()).await.unwrap(),
        audit: AuditLog::open(&folder.join("audit")).unwrap(),
        policy: Policy::default(),
        authorities,
        issued: IssuedList::open(&folder.join("issued")),
        reports: folder.join("reports"),
        now: || NOW,
        cadence_now: || NOW,
        scheduler: Scheduler::new(store.clone(), || NOW),
        glances: Glances::default(),
        store,
    })
}

fn by_ann<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let ann = Caller::new("ann", "local".into(), Role::Administrator, Credential::Socket);
    request.extensions_mut().insert(ann);
    request
}

/// Makes each write of the store fail as a full disk would; gives the way back.
fn fill(folder: &Path) -> impl FnOnce() {
    let other = rusqlite::Connection::open(folder.join("store.db")).unwrap();
    let tables: Vec<String> = {
        let mut all = other
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            .unwrap();
        all.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let all = |make: &dyn Fn(&str, &str) -> String| {
        let each = tables.iter().flat_map(|table| ["INSERT", "UPDATE"].map(|verb| make(table, verb)));
        each.collect::<Vec<_>>().join("\n")
    };
    let refuse = |table: &str, verb: &str| {
        format!("CREATE TRIGGER full_{table}_{verb} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END;")
    };
    other.execute_batch(&all(&refuse)).unwrap();
    let again = all(&|table, verb| format!("DROP TRIGGER full_{table}_{verb};"));
    move || other.execute_batch(&again).unwrap()
}

#[tokio::test]
async fn nothing_that_ends_harm_is_refused_because_nothing_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let api = api(folder.path()).await;
    let make_room = fill(folder.path());
    let refused = api.0.store.call(move |store| store.fleet(called("x"), &actor(), NOW)).await;
    assert!(refused.is_err(), "the store still takes writes");

    // What does not act is not found; that the call cannot be recorded is no reason to refuse it.
    let stop = StopRequest {
        target: InjectionId::generate().to_string(),
        ..StopRequest::default()
    };
    let unknown = api.stop(by_ann(stop)).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound, "{unknown}");
    let halt = HaltRequest { reason: "smoke".into() };
    assert!(Emergency::halt(&api, by_ann(halt)).await.unwrap().into_inner().engaged);
    assert!(api.0.runs.halt_state().engaged);
    let host = HostRef { host: "web".into() };
    let proof = tokio::time::timeout(WITHIN, api.verify(by_ann(host))).await.unwrap();
    assert_ne!(
        proof.map_err(|status| status.code()).err(),
        Some(tonic::Code::Unavailable),
        "asked although nothing is recorded"
    );
    let lock = LockRequest {
        host: "web".into(),
        locked: true,
        reason: "stolen".into(),
    };
    let unstored = api.lock(by_ann(lock)).await.unwrap_err();
    assert!(unstored.message().contains("is locked and cut off"), "{unstored}");
    assert_eq!(api.0.voice.hosts()[0].membership, Membership::Locked);

    make_room();
    let until = tokio::time::Instant::now() + WITHIN;
    loop {
        let events = api.0.store.call(|store| store.fleet_events(100)).await.unwrap();
        let calls = events.iter().filter_map(|event| match &event.body {
            FleetEventBody::CallMade { method, .. } => Some((method.as_str(), event.by.as_str())),
            _ => None,
        });
        if calls
            .collect::<Vec<_>>()
            .ends_with(&[("Runs/Stop", "ann"), ("Hosts/Verify", "ann")])
        {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "the call is not recorded within 10 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn called(method: &str) -> FleetEventBody {
    FleetEventBody::CallMade {
        method: method.into(),
        target: String::new(),
    }
}

fn actor() -> Actor {
    Actor {
        by: "ann".into(),
        address: "local".into(),
    }
}
