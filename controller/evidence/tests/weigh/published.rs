//! The site as a reader gets it: the same log gives the same bytes, every link leads somewhere, nothing is markup that was data.

use std::collections::{BTreeMap, BTreeSet};

use controller_evidence::{MARKER, MonthLine, NEWEST, Shown, Site, View, file_name, month, month_of, parse_service, run_page};
use controller_report::html;
use proto_model::event::{Event, SCHEMA_VERSION};
use proto_model::finished::FinishedRun;
use proto_model::history::{ListedRun, Tally};
use proto_model::id::sha256_text;
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

/// Each service's view and the files of its months, made by looking at every run.
fn parts(services: &[Shown], runs: &[FinishedRun]) -> (Vec<View>, BTreeMap<String, String>) {
    let mut files = BTreeMap::new();
    let views = services.iter().map(|shown| {
        let name = shown.service.name.as_str();
        let spoken = runs.iter().filter(|run| run.speaks().is_some_and(|(service, ..)| service == name));
        let mut mine: Vec<FinishedRun> = spoken.cloned().collect();
        mine.sort_by_key(|run| std::cmp::Reverse((run.summary.finished_at, run.summary.id.clone())));
        let mut months = Vec::new();
        for of_month in mine.chunk_by(|one, other| month_of(ended(one)) == month_of(ended(other))) {
            let listed: Vec<ListedRun> = of_month.iter().cloned().map(|known| ListedRun { events: 9, known }).collect();
            let month = month(name, &month_of(ended(&of_month[0])), &listed);
            files.extend([month.page(&listed), (month.line.path.clone(), month.data)]);
            months.push(month.line);
        }
        let mut tally: BTreeMap<(String, String, bool), u64> = BTreeMap::new();
        for run in &mine {
            let (summary, verdict) = (&run.summary, run.summary.verdict.unwrap().as_str().to_owned());
            *tally.entry((summary.environment.clone(), verdict, run.decided())).or_insert(0) += 1;
        }
        let tally = tally.into_iter().map(|((environment, verdict, decided), runs)| Tally {
            environment,
            verdict,
            decided,
            runs,
        });
        View {
            runs: mine,
            tally: tally.collect(),
            months,
        }
    });
    (views.collect(), files)
}

fn ended(run: &FinishedRun) -> Timestamp {
    run.summary.finished_at.unwrap()
}

/// Every file with the paths of the runs' pages.
fn all(services: &[Shown], runs: &[FinishedRun]) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let (views, mut files) = parts(services, runs);
    let site = Site::of(services, &views, runs.len() as u64);
    files.extend(site.files());
    let spoken = views.iter().flat_map(|view| &view.runs);
    (files, spoken.map(|run| run_page("web", &run.summary.id).0).collect())
}

fn digest(runs: &[FinishedRun]) -> String {
    let services = shown();
    let (views, _) = parts(&services, runs);
    Site::of(&services, &views, runs.len() as u64).digest()
}

#[test]
fn the_same_log_gives_the_same_bytes_in_any_order() {
    let mut turned = runs();
    turned.reverse();
    assert_eq!(all(&shown(), &runs()), all(&shown(), &turned));
    let runs = runs();
    assert_ne!(digest(&runs), digest(&runs[1..]));
    // What only a month says is a part of it as well.
    let mut other = runs.clone();
    other[0].summary.by = "another".to_owned();
    assert_ne!(digest(&runs), digest(&other));
}

#[test]
fn a_service_page_holds_the_newest_runs_and_months_hold_all() {
    let many = |runs: i64| -> Vec<FinishedRun> {
        let at = |number: i64| Timestamp(NOW.0 - number * DAY / 4);
        (0..runs).map(|number| run(number as u64, "demo", "passed", at(number))).collect()
    };
    let (files, pages) = all(&shown(), &many(400));
    let page = section(&files["services/web.html"], "History in demo").to_owned();
    assert_eq!(page.matches("<tr>").count(), 1 + NEWEST, "{page}");
    let months: Vec<&String> = files
        .keys()
        .filter(|path| path.starts_with("history/") && path.ends_with(".html"))
        .collect();
    let listed = |path: &&&String| pages.iter().filter(|page| files[**path].contains(page.as_str())).count();
    assert_eq!(months.iter().map(|path| listed(&path)).sum::<usize>(), 400);
    // A month that is over stays as it is, whatever comes later.
    let (shorter, _) = all(&shown(), &many(400)[200..]);
    let (oldest, _) = files.iter().find(|(path, _)| path.starts_with("history/")).unwrap();
    assert_eq!(files[oldest], shorter[oldest]);
}

#[test]
fn every_link_leads_to_a_page_and_every_run_has_one() {
    let (files, pages) = all(&shown(), &runs());
    assert_eq!(pages.len(), 4, "the attack has none");
    let mut linked = BTreeSet::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".html")) {
        for href in text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let target = href.replace("../", "");
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
    let months = history["services"][0]["months"].as_array().unwrap();
    assert_eq!(months.iter().filter_map(|month| month["runs"].as_u64()).sum::<u64>(), 4);
    for month in months {
        let data = &files[month["path"].as_str().unwrap()];
        assert_eq!(month["digest"], sha256_text(data.as_bytes()));
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["runs"].as_array().map(|runs| runs.len() as u64), month["runs"].as_u64());
    }
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

/// A run's page and a month, as they are published.
fn sample() -> String {
    let at = |second: i64| days_ago(3).plus_ms(second as u64 * 1_000);
    let id = "aaaaaaaaaaaaaaaa";
    let probe = json!({"name": "answers", "role": "hypothesis", "check": {"tcp": {"address": "web:80"}}, "from": "controller",
        "every_ms": 1000, "timeout_ms": 1000, "tolerate": {"count": 0}, "breaks": 3});
    let step = json!({"fault": "process.pause", "params": {}, "duration_ms": 8000, "reversal": {"kind": "full"},
        "injections": [{"host": "cache-1", "seed": 1}], "matched": 1});
    let host = json!({"name": "cache-1", "boot_id": "b", "catalogue_digest": "", "labels": {}, "source_address": null});
    let plan = json!({"name": "lost-cache", "origin": "experiment", "service": "web", "environment": "demo",
        "hypothesis": {"says": "web answers", "before_ms": 5000, "after_ms": 9000, "probes": [probe]}, "guards": [], "limits": {},
        "steps": [{"path": "steps[0]", "body": {"fault": step}}], "hosts": [host], "seed": 7, "notes": [], "source": ""});
    let injection =
        json!({"id": id, "step": "steps[0]", "host": "cache-1", "fault": "process.pause", "params": {}, "duration_ms": 8000, "seed": 1});
    let bodies = [
        json!({"type": "run.accepted", "digest": "sha256:00", "plan": plan, "injections": [injection], "idempotency_key": null, "halt_epoch": 0}),
        json!({"type": "run.phase", "from": "accepted", "to": "during"}),
        json!({"type": "injection.ordered", "id": id, "step": "steps[0]", "host": "cache-1", "duration_ms": 8000, "lease_ms": 15000}),
        json!({"type": "injection.applied", "id": id, "effect": {}, "engine": null, "apply_ms": 3, "deadline_boot_ms": 1, "noop": false}),
        json!({"type": "injection.observed", "id": id, "window": 1, "window_ms": 5000, "asked": null, "measured": null, "unit": "",
            "state": "confirmed", "note": null}),
        json!({"type": "injection.undone", "id": id, "ended_by": "duration_elapsed", "undone_by": "agent", "undo_ms": 41,
            "answer": "undone_now", "drift": []}),
        json!({"type": "host.verified", "host": "cache-1", "result": "clean", "owned_left": [], "not_restored": [], "drift": [],
            "consequences": [], "boot_id": "b", "digest": ""}),
        json!({"type": "run.judged", "verdict": "passed", "cleanup": "proven", "exit_code": 0, "ended_by": "completed", "reasons": [],
            "detection_ms": null, "recovery_ms": 1200, "judge_version": 1}),
        json!({"type": "run.phase", "from": "verifying", "to": "finished"}),
    ];
    let events = bodies.into_iter().zip(1..).map(|(body, seq)| {
        let mut event = json!({"run_id": format!("{:016}", 1), "seq": seq, "version": SCHEMA_VERSION, "at": at(seq), "by": "controller", "source": null});
        event.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        serde_json::from_value::<Event>(event).unwrap()
    });
    let events: Vec<Event> = events.collect();
    let known = run(1, "demo", "passed", days_ago(3));
    let (_, up) = run_page("web", &known.summary.id);
    let runs = [ListedRun { events: 4, known }];
    let month = month("web", "2027-01", &runs);
    [html(&events, Some(up)), month.page(&runs).1, month.data].concat()
}

#[test]
fn pages_that_look_otherwise_have_another_maker() {
    let (maker, digest) = ("pages 1", "sha256:3c5c73fc685a3260952fc2c5b9d5faf315b5a93c6ed1d4cfa7afee7c10167624");
    assert!(
        controller_evidence::maker().ends_with(maker) && sha256_text(sample().as_bytes()) == digest,
        "raise PAGES of controller/evidence/src/site/maker.rs, and write its number and {} here: published pages are then made anew",
        sha256_text(sample().as_bytes())
    );
}

#[test]
fn a_month_s_line_is_kept_for_the_version_that_made_it() {
    let runs = [ListedRun {
        events: 4,
        known: run(1, "demo", "passed", days_ago(3)),
    }];
    let line = month("web", "2027-01", &runs).line;
    assert_eq!(MonthLine::kept(&line.keep()), Some(line.clone()));
    assert_eq!(MonthLine::kept(&line.keep().replace("pages 1", "pages 0")), None);
    let later = [ListedRun {
        events: 5,
        ..runs[0].clone()
    }];
    assert_ne!(month("web", "2027-01", &later).line, line, "a late event changes the month");
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
