//! Levels from tables, and what must hold of any evidence: taking some away or waiting never raises anything.

use std::collections::BTreeMap;

use controller_evidence::{Evidence, coverage, parse_service, weigh};
use proptest::prelude::*;
use proto_model::document::RunDocument;
use proto_model::evidence::{Levels, Publication, Requirement, Standing};
use proto_model::finished::FinishedRun;
use proto_model::id::HostName;
use proto_model::time::Timestamp;
use serde_json::json;

use crate::scene::{DAY, EXPERIMENT, FILE, NOW, changed, days_ago, document, run, service};

fn publication(days: i64, points: u32) -> Publication {
    Publication {
        at: days_ago(days),
        by: "root@local".into(),
        place: "/srv/site".into(),
        digest: "sha256:00".into(),
        points: BTreeMap::from([("web".to_owned(), points)]),
    }
}

fn at(now: Timestamp, runs: &[FinishedRun], publications: &[Publication]) -> Levels {
    let service = service();
    weigh(&Evidence {
        service: &service,
        runs,
        publications,
        now,
    })
}

fn line<'a>(levels: &'a Levels, code: &str) -> &'a Requirement {
    levels.levels.iter().flat_map(|l| &l.requirements).find(|r| r.code == code).unwrap()
}

fn standings(levels: &Levels) -> BTreeMap<String, Standing> {
    let all = levels.levels.iter().flat_map(|l| &l.requirements);
    all.map(|r| (r.code.clone(), r.standing)).collect()
}

/// Two passes in the demo environment, one in production, and a site that shows them.
fn good() -> (Vec<FinishedRun>, Vec<Publication>) {
    let runs = vec![
        run(1, "demo", "passed", days_ago(30)),
        run(2, "demo", "passed", days_ago(2)),
        run(3, "production", "failed", days_ago(5)),
    ];
    (runs, vec![publication(1, 3)])
}

#[test]
fn the_lines_of_level_three_hold_and_the_level_is_said_to_be_zero() {
    let (runs, publications) = good();
    let levels = at(NOW, &runs, &publications);
    assert_eq!(levels.level, 0, "level 1 is not evaluated, so nothing is reached");
    let own: Vec<Standing> = levels.levels.iter().map(|l| l.standing).collect();
    use Standing::{Holds, NotEvaluated};
    assert_eq!(own, [NotEvaluated, Holds, Holds, NotEvaluated, NotEvaluated]);
    assert!(levels.levels.iter().all(|l| !l.reached));
    let cadence = line(&levels, "on_a_cadence");
    assert_eq!(
        cadence.evidence.iter().map(|w| w.run.as_str()).collect::<Vec<_>>(),
        ["0000000000000002", "0000000000000001"]
    );
    assert_eq!(cadence.evidence[0].age_ms, 2 * DAY as u64);
    assert_eq!(cadence.holds_until, Some(Timestamp(NOW.0 + 33 * DAY)));
    assert_eq!(line(&levels, "in_production").evidence[0].run.as_str(), "0000000000000003");
}

#[test]
fn levels_four_and_five_are_never_true() {
    let (runs, publications) = good();
    for line in &at(NOW, &runs, &publications).levels[3..] {
        assert!(line.requirements.iter().all(|r| r.standing == Standing::NotEvaluated) && !line.requirements.is_empty());
    }
}

#[test]
fn with_the_clock_moved_the_lines_do_not_hold_and_say_why() {
    let (runs, publications) = good();
    let later = at(Timestamp(NOW.0 + 36 * DAY), &runs, &publications);
    for code in ["on_a_cadence", "on_a_dashboard", "in_production"] {
        let line = line(&later, code);
        assert_eq!(line.standing, Standing::Missing, "{code}");
        assert!(line.says.iter().any(|says| says.contains("35 days")), "{code}: {:?}", line.says);
        assert!(line.next.is_some(), "{code}");
    }
    assert_eq!(line(&later, "fail_tested").standing, Standing::Holds, "what was shown was shown");
}

#[test]
fn a_line_warns_before_it_falls() {
    let (runs, publications) = good();
    for (days, warned) in [(25, false), (27, true), (33, true)] {
        let levels = at(Timestamp(NOW.0 + days * DAY), &runs, &publications);
        let cadence = line(&levels, "on_a_cadence");
        assert_eq!(
            (cadence.standing, cadence.warning.is_some()),
            (Standing::Holds, warned),
            "{days} days on"
        );
    }
    assert_eq!(
        line(&at(Timestamp(NOW.0 + 33 * DAY + 1), &runs, &publications), "on_a_cadence").standing,
        Standing::Missing
    );
}

#[test]
fn a_cadence_needs_two_passes_without_a_gap() {
    for (ages, holds, words) in [
        (&[2, 30][..], true, "2 times"),
        (&[2], false, "passed once"),
        (&[2, 38], false, "once since a gap"),
        (&[2, 37], true, "2 times"),
        (&[36, 40], false, "over 35 days"),
        (&[], false, "never run"),
        (&[1, 30, 60, 200], true, "3 times"),
    ] {
        let runs: Vec<FinishedRun> = ages
            .iter()
            .zip(1..)
            .map(|(age, id)| run(id, "demo", "passed", days_ago(*age)))
            .collect();
        let levels = at(NOW, &runs, &[]);
        let cadence = line(&levels, "on_a_cadence");
        assert_eq!(cadence.standing == Standing::Holds, holds, "{ages:?}: {:?}", cadence.says);
        assert!(cadence.says[0].contains(words), "{ages:?}: {:?}", cadence.says);
    }
}

#[test]
fn what_is_no_evidence_gives_nothing() {
    let held = |runs: &[FinishedRun]| {
        let levels = at(NOW, runs, &[]);
        ["fail_tested", "on_a_cadence", "in_production"].map(|code| line(&levels, code).standing == Standing::Holds)
    };
    let twice = |environment: &str, verdict: &str, change: serde_json::Value| {
        [1, 2].map(|id| changed(id, environment, verdict, days_ago(id as i64), change.clone()))
    };
    assert_eq!(held(&twice("demo", "passed", json!({}))), [true, true, false]);
    assert_eq!(held(&twice("production", "passed", json!({}))), [false, true, true]);
    assert_eq!(
        held(&twice("production", "failed", json!({}))),
        [false, false, true],
        "decided, and no more"
    );
    for verdict in ["inconclusive", "aborted", "error"] {
        assert_eq!(held(&twice("production", verdict, json!({}))), [false; 3], "{verdict}");
        assert_eq!(held(&twice("demo", verdict, json!({}))), [false; 3], "{verdict}");
    }
    for change in [
        json!({"origin": "attack"}),
        json!({"service": null}),
        json!({"service": "other"}),
        json!({"cleanup": "dirty"}),
        json!({"injections": []}),
        json!({"verdict": null}),
        json!({"finished_at": NOW.plus_ms(1)}),
    ] {
        assert_eq!(held(&twice("production", "passed", change.clone())), [false; 3], "{change}");
    }
    assert_eq!(held(&twice("demo", "passed", json!({"name": "another"}))), [false; 3]);
    for environment in ["staging", "lab"] {
        assert!(!held(&twice(environment, "passed", json!({})))[0], "{environment}");
    }
}

/// A decided run in production on a host whose label was this, two days ago.
fn on_a_host_labelled(id: u64, label: Option<&str>) -> RunDocument {
    let host = json!({"name": "cache-1", "environment": label, "cleanliness": "clean", "residue": [], "drift": [], "consequences": []});
    document(id, "production", "passed", days_ago(2), json!({"hosts": [host]}))
}

#[test]
fn production_is_what_somebody_said_is_production() {
    let explicit = on_a_host_labelled(1, Some("production"));
    let of_one = |run: &RunDocument| at(NOW, &[FinishedRun::from(run)], &[]);
    assert_eq!(line(&of_one(&explicit), "in_production").standing, Standing::Holds);
    let levels = of_one(&on_a_host_labelled(2, None));
    let unlabelled = line(&levels, "in_production");
    assert_eq!(unlabelled.standing, Standing::Missing);
    assert!(unlabelled.evidence.is_empty());
    assert_eq!(
        unlabelled.passed_over.iter().map(|w| w.run.as_str()).collect::<Vec<_>>(),
        ["0000000000000002"]
    );
    let why = unlabelled.passed_over[0].reason.as_deref();
    assert_eq!(why, Some("cache-1 had no label env=production"));
    // One host of several is enough for a run to be none.
    let mut mixed = explicit.clone();
    let mut other = mixed.injections[0].clone();
    other.host = HostName::parse("cache-2").unwrap();
    mixed.injections.push(other);
    assert_eq!(line(&of_one(&mixed), "in_production").standing, Standing::Missing);
    mixed.injections[1].ordered_at = None;
    let untouched = line(&of_one(&mixed), "in_production").standing;
    assert_eq!(untouched, Standing::Holds, "a host to which nothing was sent says nothing");
    for (change, why) in [
        (json!({"verdict": "inconclusive"}), "it ended as inconclusive"),
        (json!({"cleanup": "dirty"}), "its hosts are not proven clean"),
        (json!({"injections": []}), "no fault was confirmed to act"),
    ] {
        let levels = at(NOW, &[changed(3, "production", "passed", days_ago(1), change)], &[]);
        let reason = line(&levels, "in_production").passed_over[0].reason.as_deref();
        assert_eq!(reason, Some(why));
    }
}

#[test]
fn an_environment_that_was_declared_production_is_no_place_outside_of_it() {
    let run = changed(1, "demo", "passed", days_ago(2), json!({"production": true}));
    let levels = at(NOW, &[run], &[]);
    assert_eq!(line(&levels, "in_production").standing, Standing::Holds);
    let tested = line(&levels, "fail_tested");
    assert_eq!(tested.standing, Standing::Missing);
    assert_eq!(tested.passed_over[0].reason.as_deref(), Some("demo is production"));
}

#[test]
fn a_service_that_declares_no_production_has_no_run_there() {
    let undeclared = FILE.replace("  production:\n", "").replace(
        "  staging:\n    shares:\n      - { with: production, what: the payment gateway }\n",
        "",
    );
    let service = parse_service(&undeclared, "service.yaml").unwrap();
    let levels = weigh(&Evidence {
        service: &service,
        runs: &[FinishedRun::from(&on_a_host_labelled(1, Some("production")))],
        publications: &[],
        now: NOW,
    });
    let line = line(&levels, "in_production");
    assert_eq!(line.standing, Standing::Missing);
    assert_eq!(line.says, ["the service file does not declare production"]);
}

#[test]
fn a_dashboard_needs_two_points_and_a_publication_one() {
    for (points, age, one, two) in [
        (0, 1, false, false),
        (1, 1, true, false),
        (2, 1, true, true),
        (2, 36, true, false),
        (2, -1, false, false),
    ] {
        let levels = at(NOW, &[], &[publication(age, points)]);
        let holds = |code| line(&levels, code).standing == Standing::Holds;
        assert_eq!(
            (holds("published"), holds("on_a_dashboard")),
            (one, two),
            "{points} points, {age} days old"
        );
    }
}

#[test]
fn nothing_is_true_for_want_of_something_to_look_at() {
    let mut empty = service();
    empty.critical.clear();
    empty.playbooks.clear();
    let levels = weigh(&Evidence {
        service: &empty,
        runs: &[],
        publications: &[],
        now: NOW,
    });
    assert!(
        standings(&levels).values().all(|standing| *standing != Standing::Holds),
        "{levels:?}"
    );
    let mut unplayed = service();
    unplayed.playbooks.clear();
    let levels = weigh(&Evidence {
        service: &unplayed,
        runs: &[],
        publications: &[],
        now: NOW,
    });
    assert_eq!(line(&levels, "service_file").says, ["cache has no playbook"]);
}

/// Two passes and one run in production, each with this change, two days apart.
fn bought(change: serde_json::Value) -> Levels {
    let runs = [(1, "demo", 2), (2, "demo", 4), (3, "production", 3)];
    let runs = runs.map(|(id, environment, days)| changed(id, environment, "passed", days_ago(days), change.clone()));
    at(NOW, &runs, &[])
}

fn effect(state: &str, noop: bool) -> serde_json::Value {
    let injection = document(9, "demo", "passed", NOW, json!({})).injections[0].clone();
    let mut value = serde_json::to_value(injection).unwrap();
    value["effect"] = json!({"state": state, "asked": null, "measured": null, "unit": null, "noop": noop, "note": null});
    json!({"injections": [value]})
}

#[test]
fn evidence_cannot_be_bought_and_the_reason_is_said() {
    let held = |levels: &Levels, code: &str| line(levels, code).standing == Standing::Holds;
    let honest = bought(json!({}));
    assert!(
        ["fail_tested", "on_a_cadence", "in_production"]
            .iter()
            .all(|code| held(&honest, code))
    );
    let plan = |experiment: &str, delay: serde_json::Value| json!({"plan": {"digest": "sha256:00", "seed": 7, "experiment": experiment, "variables": delay}});
    let other = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
    for (change, why, in_production) in [
        (
            plan(EXPERIMENT, json!({"delay": "1ms"})),
            "delay was 1ms; the test requires at least 100ms",
            true,
        ),
        (plan(EXPERIMENT, json!({})), "the experiment had no variable delay", true),
        (
            plan(other, json!({"delay": "200ms"})),
            "it ran another experiment, sha256:1111",
            true,
        ),
        (effect("confirmed", true), "no fault was confirmed to act: changed nothing", false),
        (effect("mismatch", false), "no fault was confirmed to act: mismatch", false),
        (effect("unexercised", false), "no fault was confirmed to act: unexercised", false),
        (effect("unknown", false), "no fault was confirmed to act: unknown", false),
    ] {
        let levels = bought(change);
        for code in ["fail_tested", "on_a_cadence"] {
            let line = line(&levels, code);
            assert_eq!(line.standing, Standing::Missing, "{code}: {why}");
            assert!(line.evidence.is_empty() && line.passed_over.len() >= 2, "{code}: {line:?}");
            for run in &line.passed_over {
                let reason = run.reason.as_deref().unwrap_or_default();
                assert!(reason.starts_with(why), "{code}: wanted {why:?}, got {reason:?}");
            }
        }
        let cadence = line(&levels, "on_a_cadence").says.join("; ");
        assert!(cadence.contains("has passed in no run that counts"), "{why}: {cadence}");
        assert_eq!(held(&levels, "in_production"), in_production, "{why}");
        if !in_production {
            assert_eq!(line(&levels, "in_production").passed_over[0].reason.as_deref(), Some(why));
        }
    }
}

#[test]
fn six_passes_in_a_quarter_of_an_hour_are_one() {
    let passes: Vec<FinishedRun> = (0..6)
        .map(|n| run(n, "demo", "passed", Timestamp(NOW.0 - i64::try_from(n).unwrap() * 200_000)))
        .collect();
    let levels = at(NOW, &passes, &[]);
    let cadence = line(&levels, "on_a_cadence");
    assert_eq!(cadence.standing, Standing::Missing, "{cadence:?}");
    assert_eq!(
        cadence.says,
        ["lost-cache has passed once: 2 passes at least 24h and at most 35 days apart are needed"]
    );
    assert_eq!((cadence.evidence.len(), cadence.passed_over.len()), (1, 5));
    let why = cadence.passed_over[0].reason.as_deref();
    assert_eq!(why, Some("it ended less than 24h before run 0000000000000000"));
    // A day apart they are two, and those beside them change nothing.
    let mut spread = passes;
    spread.push(run(7, "demo", "passed", days_ago(1)));
    assert_eq!(line(&at(NOW, &spread, &[]), "on_a_cadence").standing, Standing::Holds);
    let mut hourly = service();
    hourly.critical[0].tests[0].min_interval_ms = 0;
    let levels = weigh(&Evidence {
        service: &hourly,
        runs: &spread[..2],
        publications: &[],
        now: NOW,
    });
    assert_eq!(line(&levels, "on_a_cadence").standing, Standing::Holds);
}

#[test]
fn a_run_that_is_still_open_is_no_evidence() {
    for state in ["after", "verifying"] {
        let levels = bought(json!({"state": state}));
        let none = ["fail_tested", "on_a_cadence", "in_production"];
        assert!(
            none.iter().all(|code| line(&levels, code).standing == Standing::Missing),
            "{state}: {levels:?}"
        );
    }
}

#[test]
fn coverage_is_of_confirmed_faults_of_the_pinned_test_alone() {
    let service = service();
    let covered = |change: serde_json::Value| {
        let runs = [changed(1, "demo", "passed", days_ago(1), change)];
        coverage(&service, &runs, NOW).values().map(BTreeMap::len).sum::<usize>()
    };
    assert_eq!(covered(json!({})), 1);
    let small = json!({"plan": {"digest": "sha256:00", "seed": 7, "experiment": EXPERIMENT, "variables": {"delay": "1ms"}}});
    for change in [
        effect("confirmed", true),
        effect("mismatch", false),
        effect("unknown", false),
        small,
    ] {
        assert_eq!(covered(change.clone()), 0, "{change}");
    }
}

/// Half days apart, so that some are too near to each other to count.
fn any_run() -> impl Strategy<Value = FinishedRun> {
    let environments = prop::sample::select(vec!["production", "demo", "staging", "lab"]);
    let verdicts = prop::sample::select(vec!["passed", "passed", "passed", "failed", "inconclusive", "aborted", "error"]);
    (0_u64..1_000_000, environments, verdicts, -10_i64..180)
        .prop_map(|(id, e, v, half_days)| run(id, e, v, Timestamp(NOW.0 - half_days * DAY / 2)))
}

fn any_publication() -> impl Strategy<Value = Publication> {
    (-5_i64..60, 0_u32..4).prop_map(|(days, points)| publication(days, points))
}

/// Nothing that did not hold before holds afterwards.
fn never_rises(before: &Levels, after: &Levels) -> Result<(), TestCaseError> {
    prop_assert!(after.level <= before.level);
    let before = standings(before);
    for (code, standing) in standings(after) {
        prop_assert!(standing != Standing::Holds || before[&code] == Standing::Holds, "{code} rose");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn taking_evidence_away_never_raises_a_level(
        runs in prop::collection::vec(any_run(), 0..12), publications in prop::collection::vec(any_publication(), 0..4), at_run: prop::sample::Index,
    ) {
        let before = at(NOW, &runs, &publications);
        let mut fewer = runs.clone();
        if !fewer.is_empty() {
            fewer.remove(at_run.index(fewer.len()));
        }
        never_rises(&before, &at(NOW, &fewer, &publications))?;
        never_rises(&before, &at(NOW, &runs, publications.get(1..).unwrap_or_default()))?;
    }

    #[test]
    fn waiting_never_raises_a_level(
        runs in prop::collection::vec(any_run(), 0..12), publications in prop::collection::vec(any_publication(), 0..4), days in 0_i64..60,
    ) {
        let past = |at: Timestamp| at <= NOW;
        let runs: Vec<FinishedRun> = runs.into_iter().filter(|r| r.summary.finished_at.is_some_and(past)).collect();
        let publications: Vec<Publication> = publications.into_iter().filter(|p| past(p.at)).collect();
        never_rises(&at(NOW, &runs, &publications), &at(Timestamp(NOW.0 + days * DAY), &runs, &publications))?;
    }

    #[test]
    fn a_pass_never_comes_from_anything_but_passes(runs in prop::collection::vec(any_run(), 0..12)) {
        let unpassed: Vec<FinishedRun> = runs.into_iter().filter(|r| r.summary.verdict != Some(proto_model::verdict::Verdict::Passed)).collect();
        let levels = at(NOW, &unpassed, &[]);
        prop_assert_eq!(line(&levels, "fail_tested").standing, Standing::Missing);
        prop_assert_eq!(line(&levels, "on_a_cadence").standing, Standing::Missing);
    }
}
