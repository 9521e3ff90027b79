//! Which kinds of fault each dependency was tested with, and what the last decided run of each showed.

use std::collections::BTreeMap;

use proto_model::document::RunDocument;
use proto_model::evidence::Witness;
use proto_model::injection::EffectState;
use proto_model::service::Service;
use proto_model::time::Timestamp;

use crate::past::of_service;

/// One kind of fault against one dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// The last decided run.
    pub last: Witness,
    /// Decided runs, and how many of them passed.
    pub decided: u32,
    pub passed: u32,
}

/// By dependency, then by kind. Only runs that were decided, and kinds that were confirmed to act, cover anything.
pub fn coverage<'a>(service: &'a Service, runs: &[RunDocument], now: Timestamp) -> BTreeMap<&'a str, BTreeMap<String, Covered>> {
    let past = of_service(&service.name, runs, now);
    let mut matrix = BTreeMap::new();
    for (dependency, tests) in service.dependencies() {
        let mut row: BTreeMap<String, Covered> = BTreeMap::new();
        for past in past.iter().filter(|p| p.decided() && tests.contains(&p.run.name)) {
            let acted = past
                .run
                .injections
                .iter()
                .filter(|i| i.effect.state == EffectState::Confirmed && !i.effect.noop);
            let kinds: std::collections::BTreeSet<String> = acted.map(|i| i.fault.to_string()).collect();
            for kind in kinds {
                let covered = row.entry(kind).or_insert_with(|| Covered {
                    last: past.witness(now),
                    decided: 0,
                    passed: 0,
                });
                covered.decided += 1;
                covered.passed += u32::from(past.passed());
            }
        }
        matrix.insert(dependency, row);
    }
    matrix
}
