//! A Prometheus probe against a small server that answers as Prometheus does: values, no values, errors, silence.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use proto_model::probe::{ProbeCheck, ProbeRole, ProbeSpec, Prober, Sample, SampleResult, SampledBy, Tolerance, ValueBounds};
use proto_model::time::Timestamp;
use proto_probes::{AddressRule, check};
use serde_json::Value;

const TIMEOUT_MS: u64 = 300;

/// Answers one connection with this status and body after a delay, and tells the request's first line.
fn serve(status: &'static str, body: String, delay_ms: u64) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        let text = String::from_utf8_lossy(&request[..length]).into_owned();
        tell.send(text.lines().next().unwrap_or_default().to_owned()).unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        // The probe may have gone by then.
        let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    });
    (address, told)
}

fn success(kind: &str, result: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
}

fn vector(values: &[&str]) -> String {
    let series: Vec<String> = values
        .iter()
        .map(|value| format!(r#"{{"metric":{{"job":"web"}},"value":[1700000000.1,"{value}"]}}"#))
        .collect();
    success("vector", &format!("[{}]", series.join(",")))
}

fn spec(url: String, bounds: ValueBounds, within_ms: Option<u64>) -> ProbeSpec {
    let Value::Object(mut params) = serde_json::to_value(bounds).unwrap() else {
        panic!("bounds are an object")
    };
    params.insert("url".into(), url.into());
    params.insert("query".into(), r#"rate(errors{code=~"5.."}[1m]) + 1"#.into());
    params.extend(within_ms.map(|ms| ("within".to_owned(), format!("{ms}ms").into())));
    ProbeSpec {
        name: "errors".into(),
        role: ProbeRole::Guard,
        check: ProbeCheck {
            kind: "prometheus".into(),
            params,
        },
        from: Prober::Controller,
        every_ms: 1_000,
        timeout_ms: TIMEOUT_MS,
        tolerate: Tolerance::Count(0),
        breaks: 3,
    }
}

fn below(bound: f64) -> ValueBounds {
    ValueBounds {
        below: Some(bound),
        ..ValueBounds::default()
    }
}

async fn asked(spec: &ProbeSpec) -> Sample {
    check(spec, &AddressRule::anything(), &SampledBy::Controller, Timestamp(0)).await
}

async fn sample(status: &'static str, body: String) -> Sample {
    let (address, _told) = serve(status, body, 0);
    asked(&spec(format!("http://{address}"), below(0.5), None)).await
}

#[tokio::test]
async fn a_value_is_held_against_its_bounds() {
    for (body, result, value) in [
        (vector(&["0.25"]), SampleResult::Good, Some(0.25)),
        (vector(&["0.5"]), SampleResult::Bad, Some(0.5)),
        (vector(&["0.1", "0.9", "0.2"]), SampleResult::Bad, Some(0.9)),
        (vector(&["+Inf"]), SampleResult::Bad, None),
        (vector(&["-Inf"]), SampleResult::Good, None),
        (success("scalar", r#"[1700000000, "0.1"]"#), SampleResult::Good, Some(0.1)),
    ] {
        let sample = sample("200 OK", body.clone()).await;
        assert_eq!((sample.result, sample.value), (result, value), "{body}: {sample:?}");
        assert_eq!(sample.unit, None);
    }
}

#[tokio::test]
async fn the_query_is_sent_whole_below_the_servers_path() {
    let (address, told) = serve("200 OK", vector(&["0"]), 0);
    let sample = asked(&spec(format!("http://{address}/prefix/"), below(0.5), None)).await;
    assert_eq!(sample.result, SampleResult::Good, "{sample:?}");
    let expected = "GET /prefix/api/v1/query?query=rate%28errors%7Bcode%3D%7E%225%2E%2E%22%7D%5B1m%5D%29%20%2B%201 HTTP/1.1";
    assert_eq!(told.recv_timeout(Duration::from_secs(5)).unwrap(), expected);
}

#[tokio::test]
async fn what_gives_no_value_is_missing_and_never_good_or_bad() {
    let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected end"}"#;
    for (status, body, words) in [
        ("200 OK", vector(&[]), "empty"),
        ("200 OK", vector(&["NaN"]), "not a number"),
        ("200 OK", vector(&["0.1", "NaN"]), "not a number"),
        ("200 OK", vector(&["x"]), "no readable value"),
        ("200 OK", success("matrix", "[]"), "expected a vector or a scalar"),
        ("200 OK", success("vector", r#"[{"metric":{}}]"#), "no readable value"),
        ("400 Bad Request", refused.to_owned(), "parse error: unexpected end"),
        ("503 Service Unavailable", "starting".to_owned(), "status 503"),
        ("200 OK", "<html>".to_owned(), "not what a query answers"),
        ("500 Oops", vector(&["0.1"]), "status 500"),
    ] {
        let sample = sample(status, body.clone()).await;
        let error = sample.error.clone().unwrap_or_default();
        assert!(
            sample.result == SampleResult::Missing && error.contains(words),
            "{body}: {sample:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_says_nothing_of_the_system() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = asked(&spec(format!("http://{closed}"), below(0.5), None)).await;
    assert_eq!(away.result, SampleResult::Missing, "{away:?}");
    let (silent, _told) = serve("200 OK", vector(&["0"]), 2 * TIMEOUT_MS);
    let late = asked(&spec(format!("http://{silent}"), below(0.5), None)).await;
    assert!(late.result == SampleResult::Missing && late.error.unwrap().contains("300 ms"));
    let (slow, _told) = serve("200 OK", vector(&["0"]), 120);
    let over = asked(&spec(format!("http://{slow}"), below(0.5), Some(50))).await;
    assert!(over.result == SampleResult::Bad && over.error.unwrap().contains("the bound is 50 ms"));
}

#[tokio::test]
async fn the_controllers_rule_of_addresses_holds_here_too() {
    let (address, _told) = serve("200 OK", vector(&["0"]), 0);
    let rule = AddressRule::for_controller(vec![address]);
    let sample = check(
        &spec(format!("http://{address}"), below(0.5), None),
        &rule,
        &SampledBy::Controller,
        Timestamp(0),
    )
    .await;
    assert_eq!(sample.result, SampleResult::Missing, "{sample:?}");
}
