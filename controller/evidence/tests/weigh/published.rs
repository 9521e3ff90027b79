//! The site as a reader gets it: the same log gives the same bytes, every link leads somewhere, nothing is markup that was data.

use std::collections::{BTreeMap, BTreeSet};

use controller_evidence::{MARKER, Shown, Site, file_name, parse_service};
use proto_model::finished::FinishedRun;
use proto_model::time::Timestamp;
use serde_json::{Value, json};

use crate::scene::{DAY, FILE, NOW, changed, days_ago, run, service};

fn shown() -> Vec<Shown> {
    vec![Shown {
        service: service(),
        applied_at: days_ago(50),
    }]
}

fn runs() -> Vec<FinishedRun> {
    vec![
        run(1, "demo", "passed", days_ago(30)),
        run(2, "demo", "passed", days_ago(2)),
        run(3, "production", "failed", days_ago(5)),
        run(4, "demo", "inconclusive", days_ago(1)),
        changed(5, "demo", "inconclusive", days_ago(1), json!({"service": null, "origin": "attack"})),
    ]
}

/// Every file with the paths of the runs' pages.
fn all(services: &[Shown], runs: &[FinishedRun]) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let site = Site::of(services, runs, 0);
    let pages = site.run_pages().into_iter().map(|(_, path, _)| path).collect();
    (site.files(), pages)
}

#[test]
fn the_same_log_gives_the_same_bytes_in_any_order() {
    let mut turned = runs();
    turned.reverse();
    assert_eq!(all(&shown(), &runs()), all(&shown(), &turned));
    let (services, runs) = (shown(), runs());
    let digest = Site::of(&services, &runs, 0).digest();
    assert_ne!(digest, Site::of(&services, &runs[1..], 0).digest());
}

#[test]
fn runs_that_are_only_counted_are_said_like_those_that_were_read() {
    let (services, runs) = (shown(), runs());
    let (owned, attack) = runs.split_at(4);
    assert_eq!(
        Site::of(&services, owned, attack.len()).files(),
        Site::of(&services, &runs, 0).files()
    );
    let index = Site::of(&services, owned, 20_000).files()["index.html"].clone();
    assert!(index.contains("Not shown: 20000 judged runs"), "{index}");
}

#[test]
fn every_link_leads_to_a_page_and_every_run_has_one() {
    let (files, pages) = all(&shown(), &runs());
    assert_eq!(pages.len(), 4, "the attack has none");
    let mut linked = BTreeSet::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".html")) {
        for href in text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let target = if path.starts_with("services/") {
                href.replacen("../", "", 1)
            } else {
                href.to_owned()
            };
            assert!(files.contains_key(&target) || pages.contains(&target), "{path} links to {href}");
            linked.insert(target);
        }
    }
    assert!(pages.is_subset(&linked), "every run is linked to");
    assert!(files.contains_key(MARKER));
}

/// The part of a page under this heading.
fn section<'a>(page: &'a str, title: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!(">{title}</h2>")).unwrap();
    rest.split("<h2").next().unwrap()
}

#[test]
fn every_run_that_a_figure_or_a_sentence_stands_for_is_linked_beside_it() {
    let links = |runs: &[FinishedRun], title: &str| {
        let (files, _) = all(&shown(), runs);
        let page = section(&files["services/web.html"], title).to_owned();
        move |id: u64| page.contains(&format!("href=\"../runs/{id:016}.html\""))
    };
    let covered = links(&runs(), "Coverage");
    assert_eq!([1, 2, 3, 4].map(covered), [true, true, true, false], "2 of 3 passed are three runs");
    // It has run and never passed; and what passed is no evidence where something is shared.
    let failed = [run(7, "demo", "failed", days_ago(3))];
    assert!(links(&failed, "Cadence")(7) && links(&failed, "Evidence")(7));
    let (files, _) = all(&shown(), &failed);
    assert!(files["services/web.html"].contains("its last run ended as failed"));
    let near = [run(8, "staging", "passed", days_ago(3)), run(9, "staging", "passed", days_ago(4))];
    let fail_tested = links(&near, "Evidence");
    assert!(fail_tested(8) && fail_tested(9));
    let (files, _) = all(&shown(), &near);
    let evidence = section(&files["services/web.html"], "Evidence");
    assert_eq!(evidence.matches("not counted").count(), 2, "{evidence}");
}

#[test]
fn the_pages_say_what_the_log_says() {
    let (files, _) = all(&shown(), &runs());
    let page = &files["services/web.html"];
    for part in [
        "level 0",
        "The lines of level 3 hold, but the level is not reached: level 1 is not evaluated.",
        "History in demo",
        "History in production",
        "process.pause",
        "(2 of 3 passed)",
        "lost-cache has passed 2 times without a gap",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(files["index.html"].contains("Not shown: 1 judged runs"));
    let history: Value = serde_json::from_str(&files["history.json"]).unwrap();
    assert_eq!(history["services"][0]["runs"].as_array().map(Vec::len), Some(4));
    assert_eq!(history["services"][0]["levels"]["level"], 0);
    let metrics = &files["metrics.prom"];
    for line in [
        "fracas_level_reached_until_timestamp_seconds{service=\"web\",level=\"3\"} 0",
        "fracas_published_runs{service=\"web\",environment=\"demo\",verdict=\"inconclusive\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
    assert!(!metrics.contains("agreed"), "what is not evaluated has no figure");
    assert_eq!(files["feed.xml"].matches("<entry>").count(), 4);
}

/// The rule of docs/evidence.md, `... > time()`, asked of the file at a moment.
fn above(metrics: &str, name: &str, labels: &str, now: Timestamp) -> Option<bool> {
    let series = format!("{name}{labels} ");
    let value: f64 = metrics.lines().find_map(|line| line.strip_prefix(&series))?.parse().ok()?;
    Some(value > now.0 as f64 / 1_000.0)
}

#[test]
fn metrics_that_nobody_writes_again_stop_saying_that_a_line_holds() {
    let (files, _) = all(&shown(), &runs());
    let metrics = &files["metrics.prom"];
    let holds = |code: &str, level: u8, now| {
        let labels = format!("{{service=\"web\",level=\"{level}\",requirement=\"{code}\"}}");
        above(metrics, "fracas_requirement_holds_until_timestamp_seconds", &labels, now)
    };
    // The last entry of the log is a day old, and what passed last two.
    let after = |days: i64| Timestamp(NOW.0 + days * DAY);
    for (code, level, last_day) in [("on_a_cadence", 3, 33), ("on_a_dashboard", 3, 34), ("in_production", 3, 30)] {
        assert_eq!(holds(code, level, NOW), Some(true), "{code}: {metrics}");
        assert_eq!(holds(code, level, after(last_day - 1)), Some(true), "{code}: {metrics}");
        assert_eq!(holds(code, level, after(last_day)), Some(false), "{code}: {metrics}");
        assert_eq!(holds(code, level, after(100)), Some(false), "{code}: {metrics}");
    }
    assert_eq!(holds("fail_tested", 2, after(100)), Some(true), "what was shown was shown");
    assert_eq!(holds("agreed", 1, NOW), None, "what is not evaluated has no figure");
    assert_eq!(above(metrics, "fracas_site_as_of_timestamp_seconds", "", days_ago(2)), Some(true));
    assert_eq!(above(metrics, "fracas_site_as_of_timestamp_seconds", "", days_ago(1)), Some(false));
    let (files, _) = all(&shown(), &runs()[..1]);
    let missing = "requirement=\"on_a_cadence\"} 0\n";
    assert!(files["metrics.prom"].contains(missing), "{}", files["metrics.prom"]);
}

#[test]
fn nothing_that_was_data_becomes_markup_or_a_path() {
    let name = "<script>alert(1)</script>\u{1}";
    let file = FILE.replace("start it", "\"<script>\"").replace("name: web\n", "name: a/../b.c\n");
    let services = vec![Shown {
        service: parse_service(&file, "s").unwrap(),
        applied_at: days_ago(3),
    }];
    let hostile = json!({"name": name, "service": "a/../b.c", "by": name, "reasons": [{"code": "x", "message": name}]});
    let runs = vec![changed(1, "demo", "failed", days_ago(1), hostile)];
    let (files, _) = all(&services, &runs);
    assert!(files.contains_key("services/a~2f~~2e~~2e~~2f~b~2e~c.html"), "{:?}", files.keys());
    for (path, text) in files.iter().filter(|(path, _)| !path.ends_with(".json")) {
        assert!(!text.contains("<script"), "{path}: {text}");
    }
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".html")) {
        assert!(text.contains("default-src 'none'"), "{path}");
    }
    assert_ne!(file_name("a.b"), file_name("a~2e~b"));
}

#[test]
fn an_empty_log_is_a_site_too() {
    let (files, pages) = all(&[], &[]);
    assert!(files["index.html"].contains("No service was applied yet") && pages.is_empty());
}
