//! `fracas attack` as an experiment of one step. Values stay text: only a target's own catalogue can type them.

use std::collections::BTreeMap;

use controller_reader::only_facts;
use proto_model::plan::{Limits, OnFailure, Origin};
use proto_model::probe::{DEFAULT_BREAKS, DEFAULT_EVERY_MS, DEFAULT_TIMEOUT_MS, ProbeRole, ProbeSpec, Prober, Tolerance};
use proto_model::problem::{Problem, Problems};
use proto_model::quantity::{Millis, Pick};
use proto_model::selector::{Selector, value};
use serde_json::Value;

use crate::experiment::{
    Experiment, LONGEST, SHORTEST, WishedFault, WishedHypothesis, WishedParams, WishedPick, WishedProbe, WishedProber, WishedStep,
    WishedTarget,
};
use crate::step::span;

/// The path of an attack's only step.
const STEP: &str = "steps[0]";
/// How long an attack's probes must hold before it.
const BEFORE_MS: u64 = 5_000;
/// And within how long again after it.
const AFTER_MS: u64 = 30_000;

/// The command as it was typed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttackWish {
    pub fault: String,
    /// `key=value`, in their order; a list repeats its key.
    pub params: Vec<(String, String)>,
    /// Selectors of which any may match.
    pub on: Vec<String>,
    /// `2` or `50%`; `None`: all that match.
    pub pick: Option<String>,
    pub seed: Option<u64>,
    pub duration: Option<Millis>,
    pub environment: Option<String>,
    /// `http=URL,within=300ms,status=200`: a kind of probe, and its parameters.
    pub probes: Vec<String>,
}

/// Understands a command; whether the fault exists, and what its parameters may be, is for `plan` to say.
pub fn attack(wish: AttackWish) -> Result<Experiment, Problems> {
    let source = command_line(&wish);
    let mut problems = Problems::default();
    let on = target(&wish, &mut problems);
    let probes: Vec<WishedProbe> = wish
        .probes
        .iter()
        .enumerate()
        .filter_map(|(i, text)| probe(i, text).map_err(|found| problems.0.extend(found.0)).ok())
        .collect();
    if let Some(duration) = wish.duration
        && !(SHORTEST..=LONGEST).contains(&duration)
    {
        problems.push(Problem::new("for", format!("{duration} is out of range")).allowed(span()));
    }
    if let Some(environment) = &wish.environment
        && let Err(why) = value(environment)
    {
        problems.push(Problem::new("env", why));
    }
    problems.into_result()?;
    let step = WishedFault {
        path: STEP.to_owned(),
        fault: wish.fault.clone(),
        params: WishedParams::Text(wish.params),
        on,
        duration: wish.duration,
        on_failure: OnFailure::Stop,
    };
    Ok(Experiment {
        name: wish.fault,
        origin: Origin::Attack,
        service: None,
        environment: wish.environment,
        hypothesis: hypothesis(probes),
        guards: Vec::new(),
        limits: Limits::default(),
        steps: vec![WishedStep::Fault(step)],
        seed: wish.seed,
        source,
        variables: BTreeMap::new(),
        places: BTreeMap::new(),
    })
}

/// Parameters as they cross the wire: an object of texts, or of lists of texts where a key was repeated.
pub fn params_from_json(text: &str) -> Result<Vec<(String, String)>, Problems> {
    let refuse = |path: String, what: &str| Problems::one(Problem::new(path, what).allowed("a text, or a list of texts"));
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let params: serde_json::Map<String, Value> =
        serde_json::from_str(text).map_err(|e| refuse("params".into(), &format!("are no object of texts: {e}")))?;
    let mut pairs = Vec::new();
    for (key, value) in params {
        match value {
            Value::Array(items) => {
                for item in items {
                    pairs.push((
                        key.clone(),
                        as_typed(&item).ok_or_else(|| refuse(format!("params.{key}"), "is nested"))?,
                    ));
                }
            }
            value => pairs.push((
                key.clone(),
                as_typed(&value).ok_or_else(|| refuse(format!("params.{key}"), "is nested"))?,
            )),
        }
    }
    Ok(pairs)
}

fn as_typed(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn target(wish: &AttackWish, problems: &mut Problems) -> WishedTarget {
    let mut selectors = Vec::with_capacity(wish.on.len());
    for text in &wish.on {
        match Selector::parse(text) {
            Ok(selector) => match only_facts("on", &selector) {
                Some(problem) => problems.push(problem),
                None => selectors.push(selector),
            },
            Err(error) => problems.push(Problem::new("on", error.to_string())),
        }
    }
    if wish.on.is_empty() {
        problems.push(Problem::new("on", "no host is named").allowed("a selector such as role=web, a host's name, or all"));
    }
    let count = wish.pick.as_ref().and_then(|text| match Pick::parse(text) {
        Ok(count) => Some(count),
        Err(error) => {
            problems.push(Problem::new("pick", error.to_string()));
            None
        }
    });
    let pick = count.map(|count| WishedPick {
        count,
        spread: None,
        seed: None,
    });
    WishedTarget { selectors, pick }
}

fn hypothesis(probes: Vec<WishedProbe>) -> Option<WishedHypothesis> {
    (!probes.is_empty()).then(|| WishedHypothesis {
        says: "the probes hold".to_owned(),
        before_ms: BEFORE_MS,
        after_ms: AFTER_MS,
        probes,
    })
}

fn probe(index: usize, text: &str) -> Result<WishedProbe, Problems> {
    let path = format!("probe[{index}]");
    let check = proto_probes::from_text(text).map_err(|mut problems| {
        for problem in &mut problems.0 {
            problem.path = problem.path.replacen("params", &path, 1);
        }
        problems
    })?;
    let timeout = check.within().map_or(0, |within| within.0).max(DEFAULT_TIMEOUT_MS);
    let spec = ProbeSpec {
        name: format!("probe-{}", index + 1),
        role: ProbeRole::Hypothesis,
        check,
        from: Prober::Controller,
        every_ms: DEFAULT_EVERY_MS.max(timeout),
        timeout_ms: timeout,
        tolerate: Tolerance::Count(0),
        breaks: DEFAULT_BREAKS,
    };
    long_enough(&path, &spec).map_err(Problems::one)?;
    Ok(WishedProbe {
        path,
        spec,
        from: WishedProber::Controller,
    })
}

/// A phase must have room for its samples.
fn long_enough(path: &str, spec: &ProbeSpec) -> Result<(), Problem> {
    let most = BEFORE_MS / u64::from(proto_model::probe::MIN_SAMPLES);
    if spec.every_ms <= most {
        return Ok(());
    }
    let message = format!(
        "within: {} is too long to be asked three times before the attack",
        Millis(spec.timeout_ms)
    );
    Err(Problem::new(path, message).allowed(format!("..{}", Millis(most))))
}

/// The command as a person could type it again.
fn command_line(wish: &AttackWish) -> String {
    let mut words = vec!["fracas".to_owned(), "attack".to_owned(), quoted(&wish.fault)];
    words.extend(wish.params.iter().map(|(key, value)| quoted(&format!("{key}={value}"))));
    let mut option = |name: &str, value: String| words.extend([format!("--{name}"), quoted(&value)]);
    for on in &wish.on {
        option("on", on.clone());
    }
    let rest = [
        ("pick", wish.pick.clone()),
        ("for", wish.duration.map(|d| d.to_string())),
        ("env", wish.environment.clone()),
    ];
    for (name, value) in rest {
        if let Some(value) = value {
            option(name, value);
        }
    }
    for probe in &wish.probes {
        option("probe", probe.clone());
    }
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.,:/=%@+".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(probes: &[&str]) -> AttackWish {
        AttackWish {
            fault: "cpu.burn".into(),
            params: vec![("percent".into(), "60".into())],
            on: vec!["role=web".into(), "zone in (a,b)".into()],
            duration: Some(Millis(20_000)),
            probes: probes.iter().map(|p| (*p).to_owned()).collect(),
            ..AttackWish::default()
        }
    }

    #[test]
    fn the_command_is_kept_as_it_could_be_typed() {
        let experiment = attack(wish(&["http=http://a/?q=1,2,within=300ms"])).unwrap();
        assert_eq!(
            experiment.source,
            "fracas attack cpu.burn percent=60 --on role=web --on 'zone in (a,b)' --for 20s --probe 'http=http://a/?q=1,2,within=300ms'"
        );
    }

    #[test]
    fn a_probe_with_a_password_is_refused_and_not_repeated() {
        let problems = attack(wish(&["http=http://ann:hunter2@a/x,within=300ms"])).unwrap_err().0;
        let said = format!("{problems:?}");
        assert!(problems[0].path == "probe[0]" && said.contains("without USER:PASSWORD@"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn probes_are_read_with_their_bounds() {
        let texts = [
            "http=http://a/x?q=1,2,within=300ms,status=204",
            "tcp=[fd00::1]:6379,within=1500ms",
            "prometheus=http://prom:9090,query=up,at_least=1",
        ];
        let probes = attack(wish(&texts)).unwrap().hypothesis.unwrap().probes;
        let http = serde_json::json!({ "http": { "url": "http://a/x?q=1,2", "status": 204, "within": "300ms" } });
        assert_eq!(serde_json::to_value(&probes[0].spec.check).unwrap(), http);
        assert_eq!((probes[0].spec.every_ms, probes[0].spec.timeout_ms), (1_000, 1_000));
        assert_eq!((probes[1].spec.every_ms, probes[1].spec.timeout_ms), (1_500, 1_500));
        assert_eq!(
            (probes[2].spec.check.kind.as_str(), probes[2].spec.check.within()),
            ("prometheus", None)
        );
        assert_eq!(probes[2].spec.name, "probe-3");
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        for (text, word) in [
            ("http", "probe[0]: \"http\" is not a probe"),
            ("tcp=10.0.0.1:80,within=300", "probe[0].within"),
            ("http=http://a,within=1m", "three times"),
            ("command=check-queue", "asked by hosts"),
        ] {
            let message = attack(wish(&[text])).unwrap_err().to_string();
            assert!(message.contains(word), "{text}: {message}");
        }
        let bad = AttackWish {
            on: vec!["role=".into(), "fact.cpus=4".into()],
            pick: Some("0".into()),
            duration: Some(Millis(10)),
            environment: Some("a b".into()),
            ..wish(&[])
        };
        let paths: Vec<String> = attack(bad).unwrap_err().0.into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["on", "on", "pick", "for", "env"]);
        assert!(attack(AttackWish { on: vec![], ..wish(&[]) }).is_err());
    }

    #[test]
    fn parameters_cross_as_texts() {
        let pairs = params_from_json(r#"{"percent": "60", "to": ["role=a", "any"], "cores": 2}"#).unwrap();
        let mut texts: Vec<String> = pairs.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        texts.sort();
        assert_eq!(texts, ["cores=2", "percent=60", "to=any", "to=role=a"]);
        assert_eq!(params_from_json("").unwrap(), []);
        assert!(params_from_json("[1]").is_err());
        assert!(params_from_json(r#"{"a": {"b": 1}}"#).is_err());
    }
}
