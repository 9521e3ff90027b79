//! Which kinds of fault each dependency was tested with, and what the decided runs of each showed.

use std::collections::BTreeMap;

use proto_model::evidence::Witness;
use proto_model::finished::FinishedRun;
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

/// Decided runs of each test that are looked at, the newest.
pub(crate) const MOST_COVERED: usize = 100;

/// By dependency, then by kind. Only runs that were decided, and kinds that were confirmed to act, cover anything.
pub fn coverage<'a>(service: &'a Service, runs: &[FinishedRun], now: Timestamp) -> BTreeMap<&'a str, BTreeMap<String, Covered>> {
    let past: Vec<Past<'_>> = of_service(&service.name, runs, now)
        .into_iter()
        .filter(|p| p.known.decided())
        .collect();
    let mut matrix = BTreeMap::new();
    for (dependency, tests) in service.dependencies() {
        let mut row: BTreeMap<String, Covered> = BTreeMap::new();
        let mut left: BTreeMap<&str, usize> = tests.iter().map(|test| (test.name.as_str(), MOST_COVERED)).collect();
        for past in &past {
            let Some(left) = left.get_mut(past.run.name.as_str()).filter(|left| **left > 0) else {
                continue;
            };
            *left -= 1;
            if !tests
                .iter()
                .any(|test| test.name == past.run.name && past.differs_from(test).is_none())
            {
                continue;
            }
            for kind in &past.known.worth.acted {
                row.entry(kind.to_string()).or_default().runs.push(past.witness(now));
            }
        }
        matrix.insert(dependency, row);
    }
    matrix
}
