//! A service as rows and as a page: pure text.

use proto_model::quantity::Millis;
use proto_model::required_test::RequiredTest;
use proto_model::service::{Environment, ServiceDocument};
use proto_model::time::Timestamp;

use crate::age::ago;
use crate::documents::Shown;
use crate::output::table;

impl Shown for ServiceDocument {
    const KIND: &'static str = "Service";
    const PLURAL: &'static str = "services";

    fn name(&self) -> String {
        self.service.name.clone()
    }

    fn header(_: bool) -> &'static [&'static str] {
        &["NAME", "OWNERS", "ENVIRONMENTS", "CRITICAL", "OTHERS", "TESTS", "BY", "AGE"]
    }

    fn row(&self, _: bool, now: Timestamp) -> Vec<String> {
        let service = &self.service;
        let environments: Vec<&str> = service.environments.keys().map(String::as_str).collect();
        vec![
            service.name.clone(),
            service.owners.join(","),
            environments.join(","),
            service.critical.len().to_string(),
            service.non_critical.len().to_string(),
            service.required_tests().len().to_string(),
            self.applied_by.clone(),
            ago(self.applied_at, now),
        ]
    }
}

pub fn page(document: &ServiceDocument) -> Vec<String> {
    let service = &document.service;
    let mut lines = vec![
        format!("service   {}", service.name),
        format!("owners    {}", service.owners.join(", ")),
        format!("applied   {} by {}", document.applied_at, document.applied_by),
        format!("file      {}", document.digest),
    ];
    lines.extend(service.environments.iter().map(|(name, environment)| {
        let shares = shares(environment);
        format!("env       {name} {shares}")
    }));
    let time = |ms: u64| Millis(ms).to_string();
    let rows = service.critical.iter().map(|d| {
        let (period, rto, rpo) = (time(d.criticality_period_ms), time(d.rto_ms), time(d.rpo_ms));
        vec![
            d.name.clone(),
            period,
            rto,
            rpo,
            d.children.join(","),
            d.probes.join(","),
            names(&d.tests),
        ]
    });
    let head = ["CRITICAL", "PERIOD", "RTO", "RPO", "CHILDREN", "PROBES", "TESTS"];
    section(&mut lines, &head, rows.collect());
    let rows = service
        .non_critical
        .iter()
        .map(|d| vec![d.name.clone(), d.threshold.clone(), d.probes.join(","), names(&d.tests)]);
    section(&mut lines, &["NON-CRITICAL", "HURTS FROM", "PROBES", "TESTS"], rows.collect());
    let rows = service
        .playbooks
        .iter()
        .map(|p| vec![p.name.clone(), p.dependency.clone(), p.steps.len().to_string()]);
    section(&mut lines, &["PLAYBOOK", "FOR", "STEPS"], rows.collect());
    lines
}

fn shares(environment: &Environment) -> String {
    let all = environment
        .shares
        .iter()
        .map(|share| format!("shares {} with {}", share.what, share.with));
    let all: Vec<String> = all.collect();
    if all.is_empty() {
        "names nothing it shares".to_owned()
    } else {
        all.join(", ")
    }
}

fn section(lines: &mut Vec<String>, head: &[&str], rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        lines.push(String::new());
        lines.extend(table::lines(head, &rows));
    }
}

fn names(tests: &[RequiredTest]) -> String {
    tests.iter().map(|test| test.name.as_str()).collect::<Vec<_>>().join(",")
}
