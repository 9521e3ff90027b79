//! A service and runs of it, so that a test says only what is special about its own.

use controller_evidence::parse_service;
use proto_model::document::RunDocument;
use proto_model::finished::FinishedRun;
use proto_model::service::Service;
use proto_model::time::Timestamp;
use serde_json::{Value, json};

pub const DAY: i64 = 86_400_000;
/// The digest that the service file pins.
pub const EXPERIMENT: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
pub const NOW: Timestamp = Timestamp(1_800_000_000_000);

pub const FILE: &str = "\
apiVersion: fracas/v1
kind: Service
name: web
owners: [team-web]
environments:
  production:
  demo: {}
  staging:
    shares:
      - { with: production, what: the payment gateway }
dependencies:
  critical:
    - name: cache
      criticality_period: 5m
      rto: 1m
      rpo: 0s
      probes: [web-answers]
      tests: [{ name: lost-cache, digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000', variables: { delay: { at_least: 100ms } } }]
playbooks:
  - { name: restore-cache, dependency: cache, steps: [start it] }
";

pub fn service() -> Service {
    parse_service(FILE, "service.yaml").unwrap()
}

pub fn days_ago(days: i64) -> Timestamp {
    Timestamp(NOW.0 - days * DAY)
}

pub fn run(id: u64, environment: &str, verdict: &str, ended: Timestamp) -> FinishedRun {
    changed(id, environment, verdict, ended, json!({}))
}

/// A judged run of `lost-cache`, with fields of its own.
pub fn changed(id: u64, environment: &str, verdict: &str, ended: Timestamp, change: Value) -> FinishedRun {
    FinishedRun::from(&document(id, environment, verdict, ended, change))
}

/// The document that it is read from.
pub fn document(id: u64, environment: &str, verdict: &str, ended: Timestamp, change: Value) -> RunDocument {
    let begun = Timestamp(ended.0 - 60_000);
    let mut value = json!({
        "id": format!("{id:016}"), "name": "lost-cache", "origin": "experiment", "service": "web", "environment": environment,
        "state": "finished", "verdict": verdict, "exit_code": 0, "ended_by": "completed", "cleanup": "proven", "reasons": [],
        "plan": {"digest": "sha256:00", "seed": 7, "experiment": EXPERIMENT, "variables": {"delay": "200ms"}}, "by": "root@local", "created_at": begun, "started_at": begun, "finished_at": ended,
        "steps": [], "probes": [], "detection_ms": null, "recovery_ms": 1200,
        "injections": [{"id": "aaaaaaaaaaaaaaaa", "step": "steps[0]", "host": "cache-1", "fault": "process.pause", "params": {},
            "state": "undone", "ordered_at": begun, "applied_at": begun, "ended_at": ended, "ended_by": "duration_elapsed", "undo_ms": 41,
            "effect": {"state": "confirmed", "asked": null, "measured": null, "unit": null, "noop": false, "note": null}, "error": null}],
        "hosts": [{"name": "cache-1", "environment": environment, "cleanliness": "clean", "residue": [], "drift": [], "consequences": []}]
    });
    value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}
