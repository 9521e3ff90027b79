//! What is selected says all that the whole history says, at random; the oracle looks at every run.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use controller_evidence::{Evidence, History, select, weigh};
use proptest::prelude::*;
use proto_model::finished::FinishedRun;
use proto_model::history::{Moment, Places, Slice};
use proto_model::service::Service;
use proto_model::time::Timestamp;
use serde_json::json;

use crate::scene::{DAY, EXPERIMENT, NOW, changed, days_ago, run, service};

/// All runs, in any order, and how many were handed out.
struct All {
    runs: Vec<FinishedRun>,
    read: usize,
}

impl All {
    /// Oldest first.
    fn of(&self, service: &str, slice: &Slice) -> BTreeMap<Moment, &FinishedRun> {
        let mut found = BTreeMap::new();
        for run in &self.runs {
            let Some((of, _, ended_at)) = run.speaks() else { continue };
            if of == service && belongs(run, slice) {
                found.insert(Moment::of(&run.summary.id, ended_at), run);
            }
        }
        found
    }
}

fn belongs(run: &FinishedRun, slice: &Slice) -> bool {
    let named = |test: &str| run.summary.name == test;
    let inside = |environment: &str| run.summary.environment == environment;
    let passed = run.is_no_pass().is_none();
    match slice {
        Slice::All => true,
        Slice::In { environment } => inside(environment),
        Slice::Passed { test } => named(test) && passed,
        Slice::NotPassed { test } => named(test) && !passed,
        Slice::Decided { test } => named(test) && run.decided(),
        Slice::PassedElsewhere { test, environment } => named(test) && inside(environment) && passed && !run.worth.production,
        Slice::Production { environment } => inside(environment) && run.worth.production,
        Slice::ShownInProduction { environment } => inside(environment) && run.worth.production && run.shows_no_production().is_none(),
    }
}

impl History for All {
    type Error = Infallible;

    fn newest(&mut self, service: &str, slice: &Slice, before: &Moment, limit: u32) -> Result<Vec<FinishedRun>, Infallible> {
        let of = self.of(service, slice).into_iter().rev().filter(|(at, _)| at < before);
        let page: Vec<FinishedRun> = of.take(limit as usize).map(|(_, run)| run.clone()).collect();
        self.read += page.len();
        Ok(page)
    }

    fn oldest(&mut self, service: &str, slice: &Slice, after: &Moment, limit: u32) -> Result<Vec<FinishedRun>, Infallible> {
        let of = self.of(service, slice).into_iter().filter(|(at, _)| at > after);
        let page: Vec<FinishedRun> = of.take(limit as usize).map(|(_, run)| run.clone()).collect();
        self.read += page.len();
        Ok(page)
    }

    fn environments(&mut self, service: &str, of: &Places) -> Result<Vec<String>, Infallible> {
        let all = self.of(service, &Slice::All).into_values();
        let wanted = all.filter(|run| match of {
            Places::All => true,
            Places::Production => run.worth.production,
            Places::PassedElsewhere { test } => run.summary.name == *test && run.is_no_pass().is_none() && !run.worth.production,
        });
        let names: BTreeSet<String> = wanted.map(|run| run.summary.environment.clone()).collect();
        Ok(names.into_iter().collect())
    }
}

fn says_the_same(service: &Service, runs: Vec<FinishedRun>) -> Result<(), TestCaseError> {
    let mut all = All { runs, read: 0 };
    let selected = select(service, &mut all, NOW).unwrap_or_else(|never| match never {});
    let levels = |runs: &[FinishedRun]| {
        weigh(&Evidence {
            service,
            runs,
            publications: &[],
            now: NOW,
        })
    };
    prop_assert_eq!(levels(&selected), levels(&all.runs));
    Ok(())
}

/// Of each sort that a level tells apart; some end at the same moment, and some after now.
fn any_run() -> impl Strategy<Value = FinishedRun> {
    let environments = prop::sample::select(vec!["production", "demo", "demo", "staging", "lab"]);
    let verdicts = prop::sample::select(vec!["passed", "passed", "passed", "passed", "failed", "error"]);
    let changes = prop::sample::select(vec![
        json!({}),
        json!({}),
        json!({}),
        json!({}),
        json!({ "plan": {"digest": "sha256:00", "seed": 7, "experiment": EXPERIMENT, "variables": {"delay": "1ms"}} }),
        json!({ "plan": {"digest": "sha256:00", "seed": 7, "experiment": "sha256:11", "variables": {"delay": "200ms"}} }),
        json!({ "name": "another" }),
        json!({ "service": "mail" }),
        json!({ "cleanup": "unproven" }),
        json!({ "production": true }),
        json!({ "injections": [] }),
        json!({ "hosts": [] }),
    ]);
    (0_u64..1_000_000, environments, verdicts, -4_i64..400, changes)
        .prop_map(|(id, e, v, quarters, change)| changed(id, e, v, Timestamp(NOW.0 - quarters * DAY / 4), change))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_selected_says_what_all_runs_say(
        runs in prop::collection::vec(any_run(), 0..160),
        // Those of the least days are dense: more of them count than are named.
        dense in prop::collection::vec(0_i64..1_200, 0..200),
        hours in prop::sample::select(vec![0_u64, 6, 24, 24 * 8, 24 * 34, 24 * 50]),
    ) {
        let mut service = service();
        service.critical[0].tests[0].min_interval_ms = hours * 3_600_000;
        let dense = dense.iter().zip(2_000_000..).map(|(hour, id)| run(id, "demo", "passed", Timestamp(NOW.0 - hour * 3_600_000)));
        // An id belongs to one run.
        let mut ids = BTreeSet::new();
        let runs = runs.into_iter().chain(dense).filter(|run| ids.insert(run.summary.id.clone())).collect();
        says_the_same(&service, runs)?;
    }
}

#[test]
fn evidence_behind_many_runs_that_are_none_is_found() {
    // Some in production that showed nothing, and before them one that did.
    let nothing = json!({ "cleanup": "unproven" });
    let newer = (0..60).map(|id| changed(id, "production", "failed", days_ago(1), nothing.clone()));
    let shown = run(100, "production", "failed", days_ago(2));
    // Elsewhere many of another test's making, and before them a pass of this one.
    let small = json!({ "plan": {"digest": "sha256:00", "seed": 7, "experiment": EXPERIMENT, "variables": {"delay": "1ms"}} });
    let differing = (200..320).map(|id| changed(id, "demo", "passed", days_ago(1), small.clone()));
    let passed = run(400, "demo", "passed", days_ago(3));
    let mut all = All {
        runs: newer.chain([shown]).chain(differing).chain([passed]).collect(),
        read: 0,
    };
    let selected = select(&service(), &mut all, NOW).unwrap_or_else(|never| match never {});
    for id in ["0000000000000100", "0000000000000400"] {
        assert!(selected.iter().any(|run| run.summary.id.as_str() == id), "{id} is evidence");
    }
    says_the_same(&service(), all.runs).unwrap();
}

#[test]
fn it_reads_as_much_of_a_long_and_dense_history_as_of_a_short_one() {
    let read = |runs: u64, minutes: i64| {
        let at = |id: u64| Timestamp(days_ago(1).0 - id as i64 * minutes * 60_000);
        let runs = (0..runs).map(|id| run(id, "demo", "passed", at(id))).collect();
        let mut all = All { runs, read: 0 };
        let selected = select(&service(), &mut all, NOW).unwrap_or_else(|never| match never {});
        (selected.len(), all.read)
    };
    assert_eq!(read(700, 60), read(1_400, 60));
    // The newest 40 once, of the 20 that count those that are not among them, and the newest elsewhere.
    let counted_of_newest = [(60, 2), (20, 1), (8 * 60, 14)];
    for (minutes, counted) in counted_of_newest {
        assert_eq!(
            read(500 * 60 / minutes as u64 + 40, minutes).1,
            40 + (20 - counted) + 1,
            "each {minutes} minutes"
        );
    }
}
