//! How often hosts are asked: once for a plan, once more for its run, and one of each catalogue for its contents.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use controller_conductor::{
    BoxFuture, GatewayError, HaltOutcome, HostGateway, Latch, PreflightReply, Settings, Supervisor, SupervisorParts,
};
use controller_planner::parse_experiment;
use controller_policy::Policy;
use controller_scheduler::Scheduler;
use controller_store::{SqliteStore, StoreHandle};
use proto_model::catalogue::{Catalogue, DurationRule, FaultKind, KindDescription};
use proto_model::doctor::HostDoctor;
use proto_model::halt::HaltState;
use proto_model::host::{Host, HostFacts};
use proto_model::id::{HostName, InjectionId, PlanDigest, RunId};
use proto_model::injection::{CleanProof, EndedBy, Injection, PreflightAnswer, Reversal, Wish};
use proto_model::probe::ProbeSpec;
use proto_model::time::Timestamp;
use proto_probes::AddressRule;
use proto_transport::{AUTHORITY_LIFE_MS, Authorities, IssuedList};
use proto_wire::v1::PlanRequest;
use proto_wire::v1::plan_request::Wish as Asked;
use serde_json::json;

use crate::audit::AuditLog;
use crate::glances::Glances;
use crate::keyring::Keyring;
use crate::service::{Api, ApiParts};

const NOW: Timestamp = Timestamp(1_000_000_000);
const HOSTS: usize = 40;

/// Hosts that accept everything and count how often they are asked.
#[derive(Default)]
struct Counting {
    preflights: Mutex<BTreeMap<HostName, usize>>,
    catalogues: Mutex<usize>,
}

impl Counting {
    /// How often each host was asked, where that is the same for all.
    fn preflights(&self) -> Option<usize> {
        let asked = self.preflights.lock().unwrap();
        let first = asked.values().next().copied()?;
        (asked.len() == HOSTS && asked.values().all(|count| *count == first)).then_some(first)
    }
}

fn catalogue() -> Catalogue {
    Catalogue(vec![KindDescription {
        kind: FaultKind::parse("cpu.burn").unwrap(),
        summary: String::new(),
        aliases: Vec::new(),
        reversal: Reversal::Full,
        duration: DurationRule::Required,
        lasts_ms: None,
        params: json!({ "properties": {} }),
        examples: Vec::new(),
        measured_by: String::new(),
        undone_by: String::new(),
    }])
}

impl HostGateway for Counting {
    fn hosts(&self) -> Vec<Arc<Host>> {
        let host = |n: usize| {
            let host = serde_json::from_value(json!({
                "name": format!("web-{n}"), "labels": { "env": "staging" }, "facts": HostFacts::default(), "connection": "connected",
                "cleanliness": "clean", "availability": "open", "membership": "enrolled", "note": null,
                "catalogue_digest": catalogue().digest(), "active_injections": 0, "enrolled_at": "2026-01-01T00:00:00.000Z",
                "last_seen": null, "certificate_not_after": null, "source_address": null
            }))
            .unwrap();
            Arc::new(host)
        };
        (0..HOSTS).map(host).collect()
    }

    fn host(&self, name: &HostName) -> Option<Arc<Host>> {
        self.hosts().into_iter().find(|host| &host.name == name)
    }

    fn catalogue(&self, _: &HostName) -> Option<Arc<Catalogue>> {
        *self.catalogues.lock().unwrap() += 1;
        Some(Arc::new(catalogue()))
    }

    fn boot_id(&self, _: &HostName) -> Option<String> {
        None
    }

    fn preflight<'a>(&'a self, host: &'a HostName, wishes: Vec<Wish>) -> BoxFuture<'a, Result<PreflightReply, GatewayError>> {
        *self.preflights.lock().unwrap().entry(host.clone()).or_default() += 1;
        let answer = PreflightAnswer {
            accepted: true,
            refusals: vec![],
            warnings: vec![],
            undo: vec![],
            touches: vec![],
            engine: None,
        };
        let reply = PreflightReply {
            answers: vec![answer; wishes.len()],
            boot_id: String::new(),
            agent_version: String::new(),
            kernel: String::new(),
            catalogue_digest: catalogue().digest(),
        };
        Box::pin(async { Ok(reply) })
    }

    fn start<'a>(
        &'a self,
        host: &'a HostName,
        _: &'a RunId,
        _: &'a Injection,
        _: &'a PlanDigest,
        _: u64,
    ) -> BoxFuture<'a, Result<(), GatewayError>> {
        Box::pin(async { Err(GatewayError::Lost(host.clone())) })
    }

    fn stop<'a>(&'a self, _: &'a HostName, _: &'a InjectionId, _: EndedBy) -> BoxFuture<'a, Result<(), GatewayError>> {
        Box::pin(async { Ok(()) })
    }

    fn renew(&self, _: &HostName, _: &[InjectionId], _: u64) {}

    fn doctor<'a>(&'a self, host: &'a HostName) -> BoxFuture<'a, Result<HostDoctor, GatewayError>> {
        Box::pin(async { Err(GatewayError::Lost(host.clone())) })
    }

    fn verify<'a>(&'a self, _: &'a HostName, _: Vec<InjectionId>) -> BoxFuture<'a, Result<CleanProof, GatewayError>> {
        Box::pin(async { Ok(CleanProof::of(vec![], vec![], vec![], vec![], "b")) })
    }

    fn settle(&self, _: &HostName, _: &[InjectionId]) {}

    fn probe_start(&self, _: &HostName, _: &RunId, _: &ProbeSpec) -> Result<(), GatewayError> {
        Ok(())
    }

    fn probe_stop(&self, _: &HostName, _: &RunId) {}

    fn accept<'a>(&'a self, _: &'a HostName, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<(), GatewayError>> {
        Box::pin(async { Ok(()) })
    }

    fn refresh<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    fn halt<'a>(&'a self, _: HaltState, _: u64) -> BoxFuture<'a, HaltOutcome> {
        Box::pin(async { HaltOutcome::default() })
    }
}

/// Nothing is ever halted.
struct Released;

impl Latch for Released {
    fn get(&self) -> HaltState {
        HaltState::released()
    }

    fn set(&self, _: HaltState) -> io::Result<()> {
        Ok(())
    }
}

async fn api(fleet: Arc<Counting>, folder: &std::path::Path) -> Api {
    let store = StoreHandle::spawn(Box::new(SqliteStore::open(folder.join("store.db")).unwrap()));
    let runs = Supervisor::new(SupervisorParts {
        store: store.clone(),
        voice: fleet.clone(),
        latch: Arc::new(Released),
        known: Arc::default(),
        policy: Policy::default(),
        rule: AddressRule::anything(),
        settings: Settings::default(),
        clock: controller_conductor::RunClock::new(|| NOW),
    });
    Api::new(ApiParts {
        voice: fleet,
        runs,
        keyring: Keyring::load(store.clone()).await.unwrap(),
        audit: AuditLog::open(&folder.join("audit")).unwrap(),
        policy: Policy::default(),
        authorities: Arc::new(Authorities::open_or_create(&folder.join("authority"), AUTHORITY_LIFE_MS, NOW).unwrap()),
        issued: IssuedList::open(&folder.join("issued")),
        reports: folder.join("reports"),
        now: || NOW,
        cadence_now: || NOW,
        scheduler: Scheduler::new(store.clone(), || NOW),
        glances: Glances::default(),
        store,
    })
}

#[tokio::test]
async fn each_host_is_asked_once_for_a_plan_and_once_for_its_run() {
    let (fleet, folder) = (Arc::new(Counting::default()), tempfile::tempdir().unwrap());
    let api = api(fleet.clone(), folder.path()).await;
    let text = "apiVersion: fracas/v1\nkind: Experiment\nname: x\nsteps: [{fault: cpu.burn, on: {all: true}, duration: 5s}]";
    let experiment = parse_experiment(text, "x.yaml", &BTreeMap::new()).unwrap();
    let planned = api.planned(experiment).await.unwrap();
    assert_eq!((planned.answers.len(), fleet.preflights()), (HOSTS, Some(1)));
    assert_eq!(*fleet.catalogues.lock().unwrap(), 1, "all hosts offer the same");
    let request = PlanRequest {
        wish: Some(Asked::Digest(planned.digest.0.clone())),
        ..PlanRequest::default()
    };
    let view = api.to_be_run(request).await.unwrap();
    assert_eq!((view == planned, fleet.preflights()), (true, Some(1)), "what was answered is kept");
    api.0.runs.start(view, "ann", None).await.unwrap();
    for _ in 0..500 {
        if fleet.preflights() == Some(2) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("asked {:?} times for a plan and its run", fleet.preflights.lock().unwrap());
}
