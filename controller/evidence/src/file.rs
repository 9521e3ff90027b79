//! The service file: YAML to a `Service`, with line and column of everything that is wrong. Nothing is looked up outside of it.

use std::collections::{BTreeMap, BTreeSet};

use controller_reader::{self as tree, Fields, Located, Node, Reader};
use proto_model::document::API_VERSION;
use proto_model::problem::{Problem, Problems};
use proto_model::service::{CriticalDependency, Environment, NonCriticalDependency, Playbook, Service, Share};

use crate::graph;
use crate::required;

const KIND: &str = "Service";
const TEXT_LENGTH: usize = 300;
/// Entries of one list.
const MOST: usize = 200;

/// Reads a service file. As many problems are found at once as can be told apart; `file_name` only stands in the words.
pub fn parse_service(text: &str, file_name: &str) -> Result<Service, Problems> {
    let tree = tree::parse(text, file_name).map_err(Problems::one)?;
    let mut reader = Reader::default();
    let service = read(&mut reader, &tree);
    if let Some(service) = &service
        && reader.is_fine()
    {
        graph::check(&mut reader, &tree::places(&tree), service);
    }
    reader.finish()?;
    service.ok_or_else(|| Problems::one(Problem::new("", format!("{file_name} is not a service"))))
}

fn read(reader: &mut Reader, tree: &Located) -> Option<Service> {
    let allowed = ["apiVersion", "kind", "name", "owners", "environments", "dependencies", "playbooks"];
    let fields = reader.fields("", tree, &allowed)?;
    constant(reader, &fields, "apiVersion", API_VERSION);
    constant(reader, &fields, "kind", KIND);
    let name = label(reader, &fields, "name");
    let owners = reader
        .required(&fields, "owners")
        .map(|(path, at)| filled(reader, &path, at, "owners", Reader::text));
    let environments = reader
        .required(&fields, "environments")
        .map(|(path, at)| environments(reader, &path, at));
    let dependencies = reader
        .required(&fields, "dependencies")
        .and_then(|(path, at)| reader.fields(&path, at, &["critical", "non_critical"]));
    let critical = dependencies.as_ref().map(|found| each(reader, found, "critical", critical));
    let non_critical = dependencies.as_ref().map(|found| each(reader, found, "non_critical", non_critical));
    let playbooks = each(reader, &fields, "playbooks", playbook);
    Some(Service {
        name: name?,
        owners: owners?,
        environments: environments?,
        critical: critical?,
        non_critical: non_critical?,
        playbooks,
    })
}

fn constant(reader: &mut Reader, fields: &Fields<'_>, key: &str, wanted: &str) {
    let Some((path, at)) = reader.required(fields, key) else { return };
    if let Some(found) = reader.text(&path, at)
        && found != wanted
    {
        reader.complain(&path, at, format!("{found:?} is not known here"), wanted);
    }
}

fn label(reader: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<String> {
    let (path, at) = reader.required(fields, key)?;
    reader.label_value(&path, at)
}

fn words(reader: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<String> {
    let (path, at) = reader.required(fields, key)?;
    let text = reader.text(&path, at)?;
    if text.trim().is_empty() || text.len() > TEXT_LENGTH {
        reader.complain(&path, at, "says nothing that fits", format!("1 to {TEXT_LENGTH} characters"));
        return None;
    }
    Some(text)
}

/// The items of an optional list, each read alike.
fn each<T>(reader: &mut Reader, fields: &Fields<'_>, key: &str, read: impl Fn(&mut Reader, &str, &Located) -> Option<T>) -> Vec<T> {
    let Some((path, at)) = fields.get(key) else { return Vec::new() };
    let items = reader.items(&path, at, key);
    if items.len() > MOST {
        reader.complain(&path, at, format!("has {} entries", items.len()), format!("..{MOST}"));
        return Vec::new();
    }
    let found = items.iter().enumerate();
    found.filter_map(|(i, item)| read(reader, &format!("{path}[{i}]"), item)).collect()
}

/// A list that must hold something, and nothing twice.
fn filled(
    reader: &mut Reader,
    path: &str,
    at: &Located,
    what: &str,
    read: impl Fn(&mut Reader, &str, &Located) -> Option<String>,
) -> Vec<String> {
    let items = reader.items(path, at, what);
    if items.is_empty() && matches!(at.value, Node::List(_)) {
        reader.complain(path, at, "is empty", format!("1 to {MOST} {what}"));
    }
    let mut found: Vec<String> = Vec::new();
    for (i, item) in items.iter().enumerate().take(MOST) {
        let here = format!("{path}[{i}]");
        match read(reader, &here, item) {
            Some(text) if found.contains(&text) => reader.complain(&here, item, format!("{text:?} is written twice"), "each once"),
            Some(text) => found.push(text),
            None => {}
        }
    }
    found
}

fn required_names(reader: &mut Reader, fields: &Fields<'_>, key: &str) -> Option<Vec<String>> {
    let (path, at) = reader.required(fields, key)?;
    Some(filled(reader, &path, at, key, Reader::label_value))
}

fn environments(reader: &mut Reader, path: &str, at: &Located) -> BTreeMap<String, Environment> {
    let Node::Map(entries) = &at.value else {
        reader.complain(path, at, format!("is {}", at.value.name()), "a mapping of environments by name");
        return BTreeMap::new();
    };
    if entries.is_empty() {
        reader.complain(path, at, "is empty", "at least one environment");
    }
    let names: BTreeSet<&str> = entries.iter().map(|(key, _)| key.value.as_str()).collect();
    let mut found = BTreeMap::new();
    for (key, value) in entries.iter().take(MOST) {
        let here = tree::child(path, &key.value);
        let environment = environment(reader, &here, value, &key.value, &names);
        if found.insert(key.value.clone(), environment).is_some() {
            reader.complain(&here, value, "is written twice", "each once");
        }
    }
    found
}

fn environment(reader: &mut Reader, path: &str, at: &Located, name: &str, known: &BTreeSet<&str>) -> Environment {
    if matches!(at.value, Node::Null) {
        return Environment::default();
    }
    let Some(fields) = reader.fields(path, at, &["shares"]) else {
        return Environment::default();
    };
    let shares = each(reader, &fields, "shares", |reader, path, at| {
        let fields = reader.fields(path, at, &["with", "what"])?;
        let (with, what) = (label(reader, &fields, "with"), words(reader, &fields, "what"));
        let with = with?;
        if with == name || !known.contains(with.as_str()) {
            let (path, at) = fields.get("with")?;
            let others: Vec<&str> = known.iter().copied().filter(|other| *other != name).collect();
            reader.complain(&path, at, format!("no other environment is named {with:?}"), others.join(", "));
            return None;
        }
        Some(Share { with, what: what? })
    });
    Environment { shares }
}

fn critical(reader: &mut Reader, path: &str, at: &Located) -> Option<CriticalDependency> {
    let allowed = ["name", "criticality_period", "rto", "rpo", "children", "probes", "tests"];
    let fields = reader.fields(path, at, &allowed)?;
    let name = label(reader, &fields, "name");
    let mut time = |key: &str| {
        let (path, at) = reader.required(&fields, key)?;
        let read = if key == "rpo" {
            reader.duration_or_zero(&path, at)
        } else {
            reader.duration(&path, at)
        };
        read.map(|ms| ms.0)
    };
    let (period, rto, rpo) = (time("criticality_period"), time("rto"), time("rpo"));
    let children = each(reader, &fields, "children", Reader::label_value);
    let (probes, tests) = (required_names(reader, &fields, "probes"), required::tests(reader, &fields));
    Some(CriticalDependency {
        name: name?,
        criticality_period_ms: period?,
        rto_ms: rto?,
        rpo_ms: rpo?,
        children,
        probes: probes?,
        tests: tests?,
    })
}

fn non_critical(reader: &mut Reader, path: &str, at: &Located) -> Option<NonCriticalDependency> {
    let fields = reader.fields(path, at, &["name", "threshold", "probes", "tests"])?;
    let (name, threshold) = (label(reader, &fields, "name"), words(reader, &fields, "threshold"));
    let probes = required_names(reader, &fields, "probes");
    let tests = each(reader, &fields, "tests", required::test);
    Some(NonCriticalDependency {
        name: name?,
        threshold: threshold?,
        probes: probes?,
        tests,
    })
}

fn playbook(reader: &mut Reader, path: &str, at: &Located) -> Option<Playbook> {
    let fields = reader.fields(path, at, &["name", "dependency", "steps"])?;
    let (name, dependency) = (label(reader, &fields, "name"), label(reader, &fields, "dependency"));
    let steps = reader
        .required(&fields, "steps")
        .map(|(path, at)| filled(reader, &path, at, "steps", Reader::text));
    Some(Playbook {
        name: name?,
        dependency: dependency?,
        steps: steps?,
    })
}
