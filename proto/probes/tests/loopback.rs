//! Probes against real sockets on loopback: what is good, bad and missing, and how long it may take.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use proto_model::id::HostName;
use proto_model::peer::Network;
use proto_model::probe::{ProbeCheck, ProbeRole, ProbeSpec, Prober, SampleResult, SampledBy, Tolerance};
use proto_model::time::Timestamp;
use proto_probes::{AddressRule, check, run_probe, wall_clock};
use serde_json::{Value, json};

fn asking(kind: &str, params: Value) -> ProbeSpec {
    let Value::Object(mut params) = params else {
        panic!("parameters are an object")
    };
    params.retain(|_, value| !value.is_null());
    spec(ProbeCheck { kind: kind.into(), params })
}

fn spec(check: ProbeCheck) -> ProbeSpec {
    ProbeSpec {
        name: "p".into(),
        role: ProbeRole::Hypothesis,
        check,
        from: Prober::Controller,
        every_ms: 50,
        timeout_ms: 300,
        tolerate: Tolerance::Count(0),
        breaks: 3,
    }
}

fn http(url: String, within_ms: Option<u64>, contains: Option<&str>) -> ProbeSpec {
    let within = within_ms.map(|ms| format!("{ms}ms"));
    asking("http", json!({ "url": url, "status": 200, "within": within, "contains": contains }))
}

/// Answers every connection with `answer` after `delay_ms`; an empty answer never answers.
fn serve(answer: &'static str, delay_ms: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming().take(100) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            std::thread::sleep(std::time::Duration::from_millis(delay_ms));
            if answer.is_empty() {
                silent.push(stream)
            } else {
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    address
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

async fn result(spec: &ProbeSpec) -> (SampleResult, String) {
    let sample = check(spec, &AddressRule::anything(), &SampledBy::Controller, Timestamp(0)).await;
    (sample.result, sample.error.unwrap_or_default())
}

#[tokio::test]
async fn http_answers_are_good_only_within_every_bound() {
    let address = serve(OK, 0);
    assert_eq!(
        result(&http(format!("http://{address}/"), None, Some("ell"))).await.0,
        SampleResult::Good
    );
    let (bad, why) = result(&http(format!("http://{address}/"), None, Some("nothing"))).await;
    assert!(bad == SampleResult::Bad && why.contains("nothing"), "{why}");
    let slow = serve(OK, 120);
    let (bad, why) = result(&http(format!("http://{slow}/"), Some(50), None)).await;
    assert!(bad == SampleResult::Bad && why.contains("bound is 50 ms"), "{why}");
    let failing = serve("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", 0);
    let (bad, why) = result(&http(format!("http://{failing}/"), None, None)).await;
    assert!(bad == SampleResult::Bad && why.contains("502"), "{why}");
}

#[tokio::test]
async fn silence_and_refusal_are_bad_but_what_cannot_be_asked_is_missing() {
    let silent = serve("", 0);
    let (bad, why) = result(&http(format!("http://{silent}/"), None, None)).await;
    assert!(bad == SampleResult::Bad && why.contains("300 ms"), "{why}");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(result(&http(format!("http://{closed}/"), None, None)).await.0, SampleResult::Bad);
    assert_eq!(
        result(&http("http://no-such-name.invalid/".into(), None, None)).await.0,
        SampleResult::Missing
    );
    assert_eq!(result(&http("ftp://127.0.0.1/".into(), None, None)).await.0, SampleResult::Missing);
}

#[tokio::test]
async fn commands_are_never_run_from_here() {
    let (missing, why) = result(&asking("command", json!({ "program": "true" }))).await;
    assert!(missing == SampleResult::Missing && why.contains("asked by hosts"), "{why}");
}

#[tokio::test]
async fn tcp_connects_or_does_not() {
    let address = serve("", 0);
    let tcp = |address: String| asking("tcp", json!({ "address": address }));
    assert_eq!(result(&tcp(address.to_string())).await.0, SampleResult::Good);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(result(&tcp(closed.to_string())).await.0, SampleResult::Bad);
    assert_eq!(result(&tcp("nonsense".into())).await.0, SampleResult::Missing);
}

#[tokio::test]
async fn a_kind_that_the_prober_does_not_know_is_missing() {
    let (missing, why) = result(&asking("telepathy", json!({}))).await;
    assert!(missing == SampleResult::Missing && why.contains("no \"telepathy\" probe"), "{why}");
}

#[tokio::test]
async fn the_address_rule_is_asked_after_resolving() {
    let address = serve(OK, 0);
    let rule = AddressRule::for_controller(vec![address]);
    let sample = check(
        &http(format!("http://localhost:{}/", address.port()), None, None),
        &rule,
        &SampledBy::Controller,
        Timestamp(0),
    )
    .await;
    assert_eq!(sample.result, SampleResult::Missing, "{:?}", sample.error);
}

/// Every kind that connects, sent to this port of this host.
fn every_kind_that_connects(host: &str, port: u16) -> [ProbeSpec; 4] {
    let url = format!("http://{host}:{port}/");
    [
        http(url.clone(), None, None),
        asking("tcp", json!({ "address": format!("{host}:{port}") })),
        asking("prometheus", json!({ "url": url, "query": "up", "above": 0.0 })),
        asking("dns", json!({ "name": "db.example", "server": format!("127.0.0.1:{port}") })),
    ]
}

#[tokio::test]
async fn a_host_asks_only_what_its_own_rules_allow_whatever_a_name_resolves_to() {
    let loopback = ["127.0.0.0/8", "::1"].map(|text| Network::parse(text).unwrap()).to_vec();
    let elsewhere = vec![Network::parse("192.0.2.0/24").unwrap()];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for (rule, key) in [
        (AddressRule::for_host(vec![], loopback), "probes.deny"),
        (AddressRule::for_host(elsewhere, vec![]), "probes.allow"),
    ] {
        for spec in every_kind_that_connects("localhost", port) {
            let sample = check(&spec, &rule, &SampledBy::Controller, Timestamp(0)).await;
            let why = sample.error.unwrap_or_default();
            assert!(
                sample.result == SampleResult::Missing && why.contains(key),
                "{:?}: {why}",
                spec.check.kind
            );
        }
    }
    assert!(listener.accept().is_err(), "something was connected to");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    target.set_nonblocking(true).unwrap();
    let to = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n",
        target.local_addr().unwrap()
    );
    let from = serve(to.leak(), 0);
    let spec = asking("http", json!({ "url": format!("http://{from}/"), "status": 302 }));
    assert_eq!(result(&spec).await.0, SampleResult::Good);
    assert!(target.accept().is_err(), "the redirect was followed");
}

#[tokio::test]
async fn a_runner_keeps_its_beat_until_nobody_listens() {
    let address = serve(OK, 0);
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let task = tokio::spawn(run_probe(
        http(format!("http://{address}/"), None, None),
        SampledBy::Host(HostName::parse("web").unwrap()),
        AddressRule::anything(),
        sender,
        wall_clock,
    ));
    for _ in 0..3 {
        assert_eq!(
            receiver.recv().await.unwrap().prober,
            SampledBy::Host(HostName::parse("web").unwrap())
        );
    }
    drop(receiver);
    tokio::time::timeout(std::time::Duration::from_secs(5), task)
        .await
        .unwrap()
        .unwrap();
}
