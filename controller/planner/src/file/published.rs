//! The published JSON Schema of the file, held against what is read: the same keys everywhere. Only tests are here.

use std::collections::BTreeSet;

use serde_json::Value;

use super::probes::PROBE_KEYS;
use super::steps::{STEP_KEYS, TARGET_KEYS};
use super::variables::VARIABLE_KEYS;
use super::{HYPOTHESIS_KEYS, KEYS, LIMIT_KEYS};

const SCHEMA: &str = include_str!("../../../../docs/experiment.schema.json");

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object["properties"].as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn every_key_that_is_read_is_published_and_no_other() {
    let schema = schema();
    let all = |lists: &[&[&'static str]]| lists.concat().into_iter().collect::<BTreeSet<&str>>();
    let known = proto_probes::descriptions();
    let kinds: Vec<&'static str> = known.iter().map(|kind| kind.kind).collect();
    assert_eq!(keys(&schema), all(&[&KEYS]));
    for (name, read) in [
        ("variable", all(&[&VARIABLE_KEYS])),
        ("hypothesis", all(&[&HYPOTHESIS_KEYS])),
        ("limits", all(&[&LIMIT_KEYS])),
        ("probe", all(&[&PROBE_KEYS, &kinds, &["tolerate"]])),
        ("guard", all(&[&PROBE_KEYS, &kinds, &["breaks"]])),
        ("step", all(&[&STEP_KEYS])),
        ("target", all(&[&TARGET_KEYS])),
    ] {
        let object = &schema["$defs"][name];
        assert_eq!(keys(object), read, "{name}");
        assert_eq!(object["additionalProperties"], false, "{name}");
    }
    for kind in known {
        let object = &schema["$defs"][kind.kind];
        assert_eq!(keys(object), keys(&kind.params), "{}", kind.kind);
        assert_eq!(object["additionalProperties"], false, "{}", kind.kind);
    }
}

#[test]
fn the_manuals_example_is_one() {
    let manual = include_str!("../../../../docs/experiments.md");
    let example = manual.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let set = [("percent".to_owned(), "60".to_owned())].into();
    let experiment = super::parse_experiment(example, "experiments.md", &set).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((experiment.steps.len(), experiment.variables["percent"].as_str()), (4, Some("60%")));
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(at: &Value, root: &Value) {
        if let Some(reference) = at.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(root.pointer(pointer).is_some(), "{reference}");
        }
        match at {
            Value::Object(fields) => fields.values().for_each(|value| check(value, root)),
            Value::Array(items) => items.iter().for_each(|value| check(value, root)),
            _ => {}
        }
    }
    let schema = schema();
    check(&schema, &schema);
}
