//! Probes as people write them, in a file or on the command line: one parser, over the schema of the kind that is named.

use proto_model::catalogue::nearest;
use proto_model::probe::ProbeCheck;
use proto_model::problem::{Problem, Problems};
use proto_model::schema;
use serde_json::{Map, Value};

use crate::kind::{AskedBy, Description};
use crate::registry::{descriptions, find};

/// The path of what is written after the kind's name.
const PARAMS: &str = "params";

/// What stands in a file after the kind's name: a text alone, or a mapping. Paths of problems begin with `params`.
pub fn parse(kind: &str, written: &Value) -> Result<ProbeCheck, Problems> {
    let known = find(kind).ok_or_else(|| Problems::one(unknown(kind)))?;
    let described = known.describe();
    let params = match written {
        Value::Object(params) => known.check(params),
        Value::String(text) => {
            let alone = Map::from_iter([(described.shorthand.to_owned(), Value::String(text.clone()))]);
            known.check(&alone).map_err(|problems| of_text(problems, described.shorthand))
        }
        _ => Err(Problems::one(
            Problem::new(PARAMS, "is neither a text nor a mapping").allowed(forms(&described)),
        )),
    };
    params.map(|params| ProbeCheck {
        kind: kind.to_owned(),
        params,
    })
}

/// `KIND=TEXT,key=value,...`, which the controller asks. Paths of problems begin with `params`.
pub fn from_text(text: &str) -> Result<ProbeCheck, Problems> {
    let Some((kind, rest)) = text.split_once('=') else {
        let problem = Problem::new(PARAMS, format!("{text:?} is not a probe"));
        return Err(Problems::one(problem.allowed(usages())));
    };
    let known = find(kind).ok_or_else(|| Problems::one(unknown(kind)))?;
    let described = known.describe();
    if described.asked_by == AskedBy::Hosts {
        let why = format!("{kind} probes are asked by hosts, and a probe of the command line by the controller");
        return Err(Problems::one(
            Problem::new(PARAMS, why).allowed("an experiment file, with from: SELECTOR"),
        ));
    }
    let (what, settings) = split_settings(rest, &described.params);
    let pairs: Vec<(String, String)> = std::iter::once((described.shorthand, what))
        .chain(settings)
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let typed = schema::from_text(&described.params, &pairs).map_err(|problems| of_text(problems, described.shorthand))?;
    let params = known.check(&typed).map_err(|problems| of_text(problems, described.shorthand))?;
    Ok(ProbeCheck {
        kind: kind.to_owned(),
        params,
    })
}

/// How a probe of this kind is typed: `tcp=ADDRESS[,within=...]`.
pub fn usage(described: &Description) -> String {
    let properties = described.params.get("properties").and_then(Value::as_object);
    let names = properties.into_iter().flat_map(Map::keys).map(String::as_str);
    let required = described.params.get("required").and_then(Value::as_array);
    let needed = |name: &str| required.is_some_and(|names| names.iter().any(|needed| needed == name));
    let others = names.filter(|name| *name != described.shorthand).map(|name| match needed(name) {
        true => format!(",{name}=..."),
        false => format!("[,{name}=...]"),
    });
    let others: String = others.collect();
    format!("{}={}{others}", described.kind, described.shorthand.to_uppercase())
}

fn usages() -> String {
    let typed = descriptions().into_iter().filter(|kind| kind.asked_by == AskedBy::Anyone);
    typed.map(|kind| usage(&kind)).collect::<Vec<_>>().join(", ")
}

fn unknown(kind: &str) -> Problem {
    let kinds: Vec<&str> = descriptions().iter().map(|known| known.kind).collect();
    let hint = nearest(kind, kinds.iter().copied()).map(|near| format!("; did you mean {near}?"));
    let message = format!("no kind of probe is named {kind:?}{}", hint.unwrap_or_default());
    Problem::new(PARAMS, message).allowed(kinds.join(", "))
}

fn forms(described: &Description) -> String {
    let mapping = format!("a mapping with {}", described.shorthand);
    match described.takes_text() {
        true => format!("{}, or {mapping}", described.shorthand),
        false => mapping,
    }
}

/// Where a text stands for the whole, a problem with it is one with the whole.
fn of_text(mut problems: Problems, shorthand: &str) -> Problems {
    let alone = format!("{PARAMS}.{shorthand}");
    for problem in problems.0.iter_mut().filter(|problem| problem.path == alone) {
        PARAMS.clone_into(&mut problem.path);
    }
    problems
}

/// Cuts at commas that are followed by a parameter of the kind, so that a URL may hold commas.
fn split_settings<'t>(text: &'t str, schema: &Value) -> (&'t str, Vec<(&'t str, &'t str)>) {
    let mut rest = text;
    let mut settings = Vec::new();
    while let Some((head, tail)) = rest.rsplit_once(',') {
        match tail.split_once('=') {
            Some((key, value)) if schema::property(schema, key.trim()).is_some() => settings.push((key.trim(), value.trim())),
            _ => break,
        }
        rest = head;
    }
    settings.reverse();
    (rest, settings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_and_a_command_line_mean_the_same() {
        for (text, kind, written) in [
            (
                "http=http://a/x?q=1,2,within=300ms,status=204",
                "http",
                json!({ "url": "http://a/x?q=1,2", "status": 204, "within": "300ms" }),
            ),
            ("tcp=[fd00::1]:6379", "tcp", json!("[fd00::1]:6379")),
            (
                "prometheus=http://prom:9090,query=rate(errors{code=~\"5..\"}[1m]),below=0.01",
                "prometheus",
                json!({ "url": "http://prom:9090", "query": "rate(errors{code=~\"5..\"}[1m])", "below": 0.01 }),
            ),
        ] {
            let typed = from_text(text).unwrap_or_else(|problems| panic!("{text}: {problems}"));
            assert_eq!(typed, parse(kind, &written).unwrap(), "{text}");
        }
    }

    #[test]
    fn every_example_of_a_kind_that_anyone_asks_can_be_typed() {
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for kind in descriptions().into_iter().filter(|kind| kind.asked_by == AskedBy::Anyone) {
            for (says, params) in &kind.examples {
                let others = params.iter().filter(|(key, _)| *key != kind.shorthand);
                let settings: String = others.map(|(key, value)| format!(",{key}={}", word(value))).collect();
                let text = format!("{}={}{settings}", kind.kind, word(&params[kind.shorthand]));
                let typed = from_text(&text).unwrap_or_else(|problems| panic!("{says}: {text}: {problems}"));
                assert_eq!(&typed.params, params, "{text}");
            }
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_what_would_be_right() {
        for (text, expected) in [
            ("http", "is not a probe (allowed: http=URL"),
            ("htpp=http://a/", "did you mean http?"),
            ("http=10.0.0.1", "params: \"10.0.0.1\" is not a URL"),
            ("tcp=10.0.0.1", "HOST:PORT"),
            ("tcp=10.0.0.1:80,status=200", "HOST:PORT"),
            ("http=http://a,within=300", "params.within"),
            ("http=http://a,within=1s,within=1s", "is given twice"),
            ("http=http://a,status=9", "params.status: 9 is out of range (allowed: 100..599)"),
            ("prometheus=http://p,query=up", "at least one bound is required"),
            ("command=check-queue", "are asked by hosts"),
        ] {
            let problems = from_text(text).unwrap_err().to_string();
            assert!(problems.contains(expected), "{text}: {problems}");
        }
        let problems = parse("http", &json!(7)).unwrap_err().to_string();
        assert!(problems.contains("url, or a mapping with url"), "{problems}");
    }
}
