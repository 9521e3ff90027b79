//! The experiment file: what is taken, and with which words, line and column the rest is refused.

use std::collections::BTreeMap;

use controller_planner::{Experiment, WishedFault, WishedParams, WishedProber, WishedStep, parse_experiment};
use proto_model::probe::Tolerance;
use proto_model::problem::{Problem, Problems};
use proto_model::quantity::{Millis, Percent};
use serde_json::json;

const GOOD: &str = r"apiVersion: fracas/v1
kind: Experiment
name: checkout-survives-slow-payments
service: checkout
environment: staging
hypothesis:
  says: Checkout answers within 300 ms while payments are slow
  before: 10s                     # first
  after: 60s
  probes:
    - name: checkout-answers
      http: { url: http://10.0.0.5:8080/health, status: 200, within: 300ms }
      from: role=client
      every: 1s
      tolerate: 5%
guards:
  - name: database
    tcp: 10.0.0.9:5432
    every: 5s
    breaks: 2
limits: { hosts: 4, share: 50%, duration: 10m, keep_healthy: 2 }
steps:
  - fault: network.delay
    params: { delay: 200ms, jitter: 20ms, to: [role=payments], ports: [8443] }
    on: { labels: role=checkout, pick: 50%, spread: zone, seed: 7 }
    duration: 60s
  - wait: 30s
  - { fault: process.pause, params: { unit: redis.service }, on: { hosts: [cache-1] }, duration: 20s }
  - { fault: process.kill, on: { all: true } }
";

fn parse(text: &str) -> Result<Experiment, Problems> {
    parse_experiment(text, "checkout.yaml", &BTreeMap::new())
}

/// The good file with one line's text replaced.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old:?} is not in the good file");
    GOOD.replacen(old, new, 1)
}

fn problems(text: &str) -> Vec<Problem> {
    match parse(text) {
        Err(problems) => problems.0,
        Ok(experiment) => panic!("was taken: {experiment:?}"),
    }
}

fn faults(experiment: &Experiment) -> Vec<&WishedFault> {
    let steps = experiment.steps.iter();
    steps
        .filter_map(|step| match step {
            WishedStep::Fault(fault) => Some(fault),
            _ => None,
        })
        .collect()
}

#[test]
fn a_whole_file_is_understood() {
    let experiment = parse(GOOD).unwrap();
    assert_eq!(experiment.environment.as_deref(), Some("staging"));
    let hypothesis = experiment.hypothesis.as_ref().unwrap();
    assert_eq!((hypothesis.before_ms, hypothesis.after_ms), (10_000, 60_000));
    let probe = &hypothesis.probes[0];
    assert_eq!(
        (probe.spec.check.kind.as_str(), probe.spec.check.within()),
        ("http", Some(Millis(300)))
    );
    assert_eq!(probe.spec.tolerate, Tolerance::Share(Percent(5.0)));
    assert!(matches!(&probe.from, WishedProber::Hosts(selector) if selector.to_string() == "role=client"));
    let guard = &experiment.guards[0].spec;
    assert_eq!((guard.every_ms, guard.timeout_ms, guard.breaks), (5_000, 1_000, 2));
    assert_eq!(experiment.limits.share_percent, Some(50.0));
    assert_eq!(experiment.steps.len(), 4);
    let faults = faults(&experiment);
    let params = json!({ "delay": "200ms", "jitter": "20ms", "to": ["role=payments"], "ports": [8443] });
    assert_eq!(faults[0].params, WishedParams::Typed(params.as_object().unwrap().clone()));
    let pick = faults[0].on.pick.as_ref().unwrap();
    assert_eq!(
        (pick.count.to_string().as_str(), pick.spread.as_deref(), pick.seed),
        ("50%", Some("zone"), Some(7))
    );
    assert_eq!((faults[1].path.as_str(), faults[1].duration), ("steps[2]", Some(Millis(20_000))));
    assert_eq!(faults[2].duration, None);
    assert_eq!(experiment.source, GOOD);
    assert_eq!(experiment.places.get("steps[0].params.delay"), Some(&(24, 22)));
}

#[test]
fn guards_take_every_way_of_asking() {
    for (written, from, expected) in [
        (
            "http: http://10.0.0.9/",
            "controller",
            json!({ "http": { "url": "http://10.0.0.9/", "status": 200 } }),
        ),
        ("tcp: 10.0.0.9:5432", "role=web", json!({ "tcp": { "address": "10.0.0.9:5432" } })),
        (
            "prometheus: { url: http://prom:9090/x, query: 'rate(errors[1m])', below: 0.01, at_least: 0, within: 500ms }",
            "controller",
            json!({ "prometheus": { "url": "http://prom:9090/x", "query": "rate(errors[1m])", "below": 0.01, "at_least": 0.0, "within": "500ms" } }),
        ),
        (
            "command: { program: check-queue, args: [--max, '5'], exit: 3, contains: ok, at_most: 5, within: 1s }",
            "role=web",
            json!({ "command": { "program": "check-queue", "args": ["--max", "5"], "exit": 3, "contains": "ok", "at_most": 5.0, "within": "1s" } }),
        ),
        (
            "dns: { name: db.example, server: 10.0.0.53, expect: [10.0.0.9] }",
            "controller",
            json!({ "dns": { "name": "db.example", "server": "10.0.0.53", "expect": ["10.0.0.9"] } }),
        ),
    ] {
        let text = with("tcp: 10.0.0.9:5432", &format!("from: {from}\n    {written}"));
        let guard = parse(&text)
            .unwrap_or_else(|problems| panic!("{written}: {problems}"))
            .guards
            .remove(0);
        assert_eq!(serde_json::to_value(&guard.spec.check).unwrap(), expected, "{written}");
    }
}

/// Every example that a kind shows of itself is one that a file may hold.
#[test]
fn every_example_of_every_kind_is_understood_in_a_file() {
    for kind in proto_probes::descriptions() {
        for (says, params) in kind.examples {
            let written = format!("{}: {}", kind.kind, serde_json::Value::Object(params.clone()));
            let text = with("tcp: 10.0.0.9:5432", &format!("from: role=web\n    {written}"));
            let guard = parse(&text)
                .unwrap_or_else(|problems| panic!("{says}: {problems}"))
                .guards
                .remove(0);
            assert_eq!(
                (guard.spec.check.kind.as_str(), guard.spec.check.params),
                (kind.kind, params),
                "{says}"
            );
        }
    }
}

#[test]
fn json_is_yaml() {
    let file = json!({
        "apiVersion": "fracas/v1", "kind": "Experiment", "name": "j",
        "steps": [{ "fault": "cpu.burn", "params": { "percent": 60.5 }, "on": { "labels": ["role=a", "role=b"] }, "duration": "5s" }]
    });
    let experiment = parse(&serde_json::to_string_pretty(&file).unwrap()).unwrap();
    assert_eq!(faults(&experiment)[0].on.selectors.len(), 2);
}

/// Text to replace, its replacement, and a part of the first problem as it is printed.
const BAD: &[(&str, &str, &str)] = &[
    (
        "kind: Experiment",
        "kind: Experimint",
        "2:7: kind: \"Experimint\" is not known here (allowed: Experiment)",
    ),
    ("apiVersion: fracas/v1", "apiVersion: fracas/v9", "1:13: apiVersion"),
    (
        "service: checkout",
        "servise: checkout",
        "4:1: servise: unknown key \"servise\"; did you mean service?",
    ),
    (
        "service: checkout",
        "service: 7",
        "4:10: service: is 7 (allowed: a text, in quotes)",
    ),
    ("service: checkout", "name: checkout", "4:1: name: key \"name\" is written twice"),
    ("service: checkout", "\tservice: checkout", "4:1: is indented by a tab"),
    ("name: checkout-survives-slow-payments", "name: ''", "3:7: name: is no name"),
    (
        "before: 10s",
        "before: 10",
        "8:11: hypothesis.before: is 10 (allowed: a number and a unit",
    ),
    (
        "before: 10s",
        "before: 10sec",
        "8:11: hypothesis.before: \"10sec\" is not a duration",
    ),
    (
        "before: 10s",
        "before: 2s",
        "8:11: hypothesis.before: 2s is too short for 3 samples every 1s (allowed: 3s..)",
    ),
    ("after: 60s", "after: 1s", "9:10: hypothesis.after"),
    ("says: Checkout", "say: Checkout", "did you mean says?"),
    ("http: {", "grpc: {", "12:7: hypothesis.probes[0].grpc: unknown key"),
    (
        "url: http://10.0.0.5:8080/health",
        "url: 10.0.0.5:8080/health",
        "12:20: hypothesis.probes[0].http.url",
    ),
    ("status: 200", "status: 20", "100..599"),
    ("within: 300ms", "within: 3s", "within 3s is longer than timeout, 1s"),
    (
        "every: 1s",
        "every: 1s\n      timeout: 2s",
        "15:16: hypothesis.probes[0].timeout: 2s is longer than every, 1s",
    ),
    ("every: 1s", "every: 1ms", "100ms..1h"),
    ("tolerate: 5%", "tolerate: 101%", "15:17: hypothesis.probes[0].tolerate"),
    ("from: role=client", "from: fact.cpus=4", "uses only facts"),
    ("from: role=client", "from: role=", "13:13: hypothesis.probes[0].from"),
    ("tcp: 10.0.0.9:5432", "tcp: 10.0.0.9", "HOST:PORT"),
    (
        "tcp: 10.0.0.9:5432",
        "timeout: 1s",
        "17:5: guards[0]: asks nothing (allowed: one of http, tcp, dns, prometheus, command)",
    ),
    (
        "name: database",
        "name: checkout-answers",
        "17:11: guards[0].name: the name \"checkout-answers\" is taken by hypothesis.probes[0]",
    ),
    (
        "tcp: 10.0.0.9:5432",
        "prometheus: { url: http://p:9090, query: up }",
        "18:17: guards[0].prometheus: at least one bound is required (allowed: above,",
    ),
    (
        "tcp: 10.0.0.9:5432",
        "prometheus: { url: http://p:9090, query: up, below: 5% }",
        "guards[0].prometheus.below: \"5%\" does not fit (allowed: a number",
    ),
    (
        "tcp: 10.0.0.9:5432",
        "prometheus: { url: p, query: ' ', above: 1 }",
        "guards[0].prometheus.query: has 1 bytes",
    ),
    (
        "tcp: 10.0.0.9:5432",
        "command: { program: check-queue }",
        "17:5: guards[0]: a command probe is asked by hosts, never by the controller (allowed: from: a selector of hosts)",
    ),
    (
        "tcp: 10.0.0.9:5432",
        "from: controller\n    command: { program: check-queue }",
        "a command probe is asked by hosts",
    ),
    (
        "tcp: 10.0.0.9:5432",
        "from: role=web\n    command: { program: ../check }",
        "guards[0].command.program: \"../check\" is no program's name",
    ),
    (
        "tcp: 10.0.0.9:5432",
        "from: role=web\n    command: { program: c, args: [5] }",
        "guards[0].command.args[0]: 5 does not fit (allowed: a text",
    ),
    (
        "tcp: 10.0.0.9:5432",
        "from: role=web\n    command: { program: c, exit: 256 }",
        "0..255",
    ),
    ("breaks: 2", "breaks: 0", "20:13: guards[0].breaks"),
    ("breaks: 2", "tolerate: 2", "unknown key \"tolerate\""),
    ("share: 50%", "share: 150%", "21:28: limits.share: \"150%\" is not a percent"),
    ("hosts: 4", "hosts: 0", "21:18: limits.hosts"),
    (
        "  - wait: 30s",
        "  - wait: 30s\n    fault: cpu.burn",
        "27:5: steps[1]: says fault and wait at once",
    ),
    (
        "  - wait: 30s",
        "  - parallel: []",
        "27:15: steps[1].parallel: has 0 branches (allowed: 2..20)",
    ),
    ("  - wait: 30s", "  - {}", "27:5: steps[1]: says neither"),
    ("duration: 60s", "duration: -60s", "26:15: steps[0].duration"),
    ("fault: network.delay", "fault: [a]", "23:12: steps[0].fault: is a list"),
    ("{ hosts: [cache-1] }", "{ hosts: [Cache_1] }", "steps[2].on.hosts[0]"),
    ("{ hosts: [cache-1] }", "{ hosts: [] }", "at least one"),
    (
        "{ hosts: [cache-1] }",
        "{ hosts: [cache-1], all: true }",
        "says hosts and all at once",
    ),
    ("{ hosts: [cache-1] }", "{ pick: 1 }", "exactly one"),
    (
        "{ all: true }",
        "{ all: false }",
        "29:39: steps[3].on.all: is false (allowed: true)",
    ),
    ("{ all: true }", "{ all: true, seed: 7 }", "together with pick"),
    ("pick: 50%", "pick: 0", "steps[0].on.pick"),
    ("seed: 7", "seed: -7", "a whole number"),
    (
        "delay: 200ms, jitter: 20ms",
        "delay: 200ms, delay: 20ms",
        "24:29: steps[0].params.delay: key \"delay\" is written twice",
    ),
    ("params: { unit: redis.service }", "params: [a]", "a mapping of parameters"),
    (" on: { all: true }", " duration: 1s", "steps[3].on: is required"),
];

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let mut missed = Vec::new();
    for (old, new, expected) in BAD {
        let found = problems(&with(old, new));
        let printed: Vec<String> = found.iter().map(Problem::to_string).collect();
        let placed = found.iter().all(|p| p.line.is_some() && p.column.is_some());
        if !placed || !printed.iter().any(|p| p.contains(expected)) {
            missed.push(format!("{old} -> {new}\n wanted {expected}\n found {printed:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_url_with_a_password_is_refused_with_its_place_and_not_repeated() {
    let http = "http: { url: http://10.0.0.5:8080/health, status: 200, within: 300ms }";
    let asked = [
        (
            "http: { url: 'https://ann:hunter2@10.0.0.5/health' }",
            "hypothesis.probes[0].http.url",
        ),
        ("http: 'http://hunter2@10.0.0.5?q=1'", "hypothesis.probes[0].http"),
        (
            "prometheus: { url: 'http://ann:hunter2@10.0.0.5:9090', query: up, below: 1 }",
            "hypothesis.probes[0].prometheus.url",
        ),
    ];
    for (probe, path) in asked {
        let found = problems(&with(http, probe));
        assert_eq!((found.len(), found[0].path.as_str()), (1, path), "{found:?}");
        assert_eq!(found[0].line, Some(12), "{found:?}");
        assert!(
            found[0]
                .allowed
                .as_deref()
                .is_some_and(|allowed| allowed.contains("without USER:PASSWORD@")),
            "{found:?}"
        );
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    }
    // Behind the host it is no password.
    parse(&with(http, "http: 'http://10.0.0.5:8080/users/@ann?mail=a@b'")).unwrap();
}

#[test]
fn several_problems_are_said_at_once_in_the_files_order() {
    let text = with("before: 10s", "before: 10")
        .replace("breaks: 2", "brakes: 2")
        .replace("wait: 30s", "wait: x");
    let lines: Vec<u64> = problems(&text).iter().filter_map(|p| p.line).collect();
    assert_eq!(lines, [8, 20, 27]);
}

#[test]
fn what_is_no_experiment_is_refused() {
    for text in [
        "",
        "# only a comment",
        "[]",
        "null",
        "42",
        "a: b: c",
        "{",
        "- - -",
        "steps: &a [*a]",
        "a: *nobody",
        "x: 1\n---\ny: 2",
        "\u{0}",
    ] {
        assert!(!problems(text).is_empty(), "{text:?}");
    }
    let empty = problems("apiVersion: fracas/v1\nkind: Experiment\nname: x\nsteps: []\n");
    assert_eq!(
        empty[0].to_string(),
        "4:8: steps: injects nothing (allowed: at least one step with a fault)"
    );
    assert!(
        problems("apiVersion: fracas/v1\nkind: Experiment\nname: x\nsteps: [{wait: 1s}]\n")[0]
            .message
            .contains("injects nothing")
    );
    assert!(problems("kind: Experiment")[0].to_string().starts_with("1:1: "));
}

#[test]
fn a_step_that_cannot_be_read_is_not_said_to_inject_nothing() {
    let head = "apiVersion: fracas/v1\nkind: Experiment\nname: x\nlimits: { hosts: 0 }\n";
    let found = problems(&format!(
        "{head}steps: [{{ fault: cpu.burn, on: {{ all: true }}, duration: 10 }}]\n"
    ));
    let paths: Vec<&str> = found.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["limits.hosts", "steps[0].duration"]);
    let found = problems(&format!("{head}steps: [{{ wait: 1s }}]\n"));
    assert_eq!((found.len(), found[1].message.as_str()), (2, "injects nothing"));
}

#[test]
fn aliases_serve_but_do_not_explode() {
    let shared = with("{ all: true }", "*where").replacen("on: { labels", "on: &where { labels", 1);
    let experiment = parse(&shared).unwrap();
    assert_eq!(faults(&experiment)[0].on, faults(&experiment)[2].on);
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..9 {
        let inner = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{inner}]\n"));
    }
    let started = std::time::Instant::now();
    assert!(!problems(&bomb).is_empty());
    assert!(started.elapsed().as_secs() < 5, "a bomb took {:?}", started.elapsed());
    assert!(!problems(&format!("name: {}", "[".repeat(100_000))).is_empty());
    assert!(problems(&format!("name: {}", "x".repeat(300_000)))[0].message.contains("bytes"));
}

#[test]
fn merge_keys_and_undeclared_variables_are_refused() {
    let merged = with("limits: {", "limits: { <<: { hosts: 2 },");
    assert!(problems(&merged)[0].line == Some(21));
    let set = BTreeMap::from([("delay".to_owned(), "1s".to_owned())]);
    let error = parse_experiment(GOOD, "checkout.yaml", &set).unwrap_err().to_string();
    assert_eq!(
        error,
        "set.delay: checkout.yaml declares no variable delay (allowed: none: the file has no variables)"
    );
}

#[test]
fn no_text_makes_it_panic() {
    use proptest::prelude::*;
    let pieces = prop_oneof![
        Just("steps:\n".to_owned()),
        Just("  - fault: cpu.burn\n".to_owned()),
        Just("    on: {all: true}\n".to_owned()),
        Just("&a ".to_owned()),
        Just("*a".to_owned()),
        Just("? ".to_owned()),
        Just("!!int ".to_owned()),
        "[ -~\\n\\t]{0,12}",
    ];
    proptest!(ProptestConfig::with_cases(300), |(parts in prop::collection::vec(pieces, 0..12))| {
        let _ = parse(&parts.concat());
    });
}
