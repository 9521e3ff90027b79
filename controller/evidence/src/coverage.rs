//! Which kinds of fault each dependency was tested with, and what the decided runs of each showed.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::document::RunDocument;
use proto_model::evidence::Witness;
use proto_model::service::Service;
use proto_model::time::Timestamp;
use proto_model::verdict::Verdict;

use crate::past::{Past, of_service};

/// One kind of fault against one dependency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Covered {
    /// Decided runs, the newest first; there is at least one.
    pub runs: Vec<Witness>,
}

impl Covered {
    /// How many of the runs passed.
    pub fn passed(&self) -> usize {
        self.runs.iter().filter(|run| run.verdict == Verdict::Passed).count()
    }
}

/// By dependency, then by kind. Only runs that were decided, and kinds that were confirmed to act, cover anything.
pub fn coverage<'a>(service: &'a Service, runs: &[RunDocument], now: Timestamp) -> BTreeMap<&'a str, BTreeMap<String, Covered>> {
    let past = of_service(&service.name, runs, now);
    let mut matrix = BTreeMap::new();
    for (dependency, tests) in service.dependencies() {
        let mut row: BTreeMap<String, Covered> = BTreeMap::new();
        let of_it = |p: &&Past<'_>| tests.iter().any(|test| test.name == p.run.name && p.differs_from(test).is_none());
        for past in past.iter().filter(|p| p.decided()).filter(of_it) {
            let kinds: BTreeSet<String> = past.acted().map(ToString::to_string).collect();
            for kind in kinds {
                row.entry(kind).or_default().runs.push(past.witness(now));
            }
        }
        matrix.insert(dependency, row);
    }
    matrix
}
