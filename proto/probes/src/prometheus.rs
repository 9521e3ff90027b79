//! A Prometheus probe: one instant query, its values held against bounds. No value is never good, and never bad either.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proto_model::probe::ValueBounds;
use proto_model::problem::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::address::AddressRule;
use crate::answer::{Answer, Told};
use crate::http::fetch;
use crate::kind::{Example, Probe, Timeout};
use crate::url;

/// Longest query, in bytes.
const QUERY_BYTES: usize = 4_096;

pub(crate) struct Prometheus;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PrometheusParams {
    /// Of the server, without /api/v1/query.
    url: String,
    /// PromQL; every series of the answer must be within the bounds.
    #[schemars(length(min = 1, max = 4096))]
    query: String,
    #[serde(flatten)]
    bounds: ValueBounds,
}

impl Probe for Prometheus {
    const KIND: &'static str = "prometheus";
    const SUMMARY: &'static str = "every series of an instant query is within the bounds, of which there is at least one";
    const SHORTHAND: &'static str = "url";
    const TIMEOUT: Timeout = Timeout::Missing;
    type Params = PrometheusParams;

    fn examples() -> Vec<Example<PrometheusParams>> {
        let params = PrometheusParams {
            url: "http://prom:9090".to_owned(),
            query: "rate(errors[1m])".to_owned(),
            bounds: ValueBounds {
                below: Some(0.01),
                ..ValueBounds::default()
            },
        };
        vec![Example {
            says: "less than one error in a hundred seconds",
            params,
        }]
    }

    fn validate(params: &PrometheusParams) -> Result<(), Problems> {
        let mut problems = Problems(url::problem("params.url", &params.url).into_iter().collect());
        let bytes = params.query.len();
        if params.query.trim().is_empty() || bytes > QUERY_BYTES {
            let problem = Problem::new("params.query", format!("has {bytes} bytes"));
            problems.push(problem.allowed(format!("a query of 1..{QUERY_BYTES} bytes")));
        }
        if params.bounds.is_empty() {
            let problem = Problem::new("params", "at least one bound is required");
            problems.push(problem.allowed("above, at_least, equals, at_most, below"));
        }
        problems.into_result()
    }

    fn authority(params: &PrometheusParams) -> Option<&str> {
        url::authority(&params.url)
    }

    async fn ask(params: &PrometheusParams, rule: &AddressRule) -> Told {
        measure(params, rule).await
    }
}

/// What a server's HTTP API answers to a query, as far as it is read.
#[derive(Deserialize)]
struct Reply {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

async fn measure(check: &PrometheusParams, rule: &AddressRule) -> Told {
    let query = utf8_percent_encode(&check.query, NON_ALPHANUMERIC);
    let url = format!("{}/api/v1/query?query={query}", check.url.trim_end_matches('/'));
    match fetch(&url, rule).await {
        Ok((status, body)) => read(status, &body, &check.bounds),
        // The meter is not what is measured.
        Err(Answer::Bad(why) | Answer::Missing(why)) => missing(format!("Prometheus: {why}")),
        Err(Answer::Good) => missing("Prometheus did not answer".to_owned()),
    }
}

fn missing(why: String) -> Told {
    (Answer::Missing(why), None)
}

fn read(status: u16, body: &[u8], bounds: &ValueBounds) -> Told {
    let reply: Reply = match serde_json::from_slice(body) {
        Ok(reply) => reply,
        Err(_) => return missing(format!("Prometheus answers status {status} and not what a query answers")),
    };
    let data = match reply.data {
        Some(data) if reply.status == "success" && status == 200 => data,
        _ => return missing(format!("Prometheus answers status {status}: {}", reply.error)),
    };
    let values = match data.result_type.as_str() {
        "vector" => vector(&data.result),
        "scalar" => value(&data.result).map(|value| vec![value]),
        other => return missing(format!("the query gives a {other}; expected a vector or a scalar")),
    };
    match values {
        None => missing("the query's answer has no readable value".to_owned()),
        Some(values) => worst(&values, bounds),
    }
}

fn vector(result: &Value) -> Option<Vec<f64>> {
    result.as_array()?.iter().map(|series| value(series.get("value")?)).collect()
}

/// `[time, "value"]`; the value may be `NaN`, `+Inf` or `-Inf`.
fn value(sample: &Value) -> Option<f64> {
    sample.get(1)?.as_str()?.parse().ok()
}

/// The first that is bad, else the first that is missing, else the first of all.
fn worst(values: &[f64], bounds: &ValueBounds) -> Told {
    let answers = || values.iter().map(|value| (Answer::of(*value, bounds), Some(*value)));
    let bad = answers().find(|(answer, _)| matches!(answer, Answer::Bad(_)));
    let nothing = || answers().find(|(answer, _)| matches!(answer, Answer::Missing(_)));
    let first = || answers().next();
    bad.or_else(nothing)
        .or_else(first)
        .unwrap_or_else(|| missing("the query's answer is empty".to_owned()))
}
