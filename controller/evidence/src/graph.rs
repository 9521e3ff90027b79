//! What a service file's names refer to: every child and every playbook's dependency is declared once, and nothing depends on itself.

use std::collections::{BTreeMap, BTreeSet};

use controller_reader::Reader;
use proto_model::catalogue::nearest;
use proto_model::problem::Problem;
use proto_model::required_test::RequiredTest;
use proto_model::service::Service;

type Places = BTreeMap<String, (u64, u64)>;

pub(crate) fn check(reader: &mut Reader, places: &Places, service: &Service) {
    let mut report = |path: String, message: String, allowed: Option<String>| {
        let mut problem = Problem::new(&path, message);
        if let Some((line, column)) = places.get(&path) {
            problem = problem.at(*line, *column);
        }
        if let Some(allowed) = allowed {
            problem = problem.allowed(allowed);
        }
        reader.push(problem);
    };
    let names = names(service);
    let mut seen = BTreeSet::new();
    for (path, name) in &names {
        if !seen.insert(*name) {
            report(format!("{path}.name"), format!("the name {name:?} is taken"), None);
        }
    }
    for (i, dependency) in service.critical.iter().enumerate() {
        for (j, child) in dependency.children.iter().enumerate() {
            if !seen.contains(child.as_str()) {
                let near = nearest(child, seen.iter().copied()).map(|near| format!("; did you mean {near}?"));
                let message = format!(
                    "{} names the child {child:?}, which is not declared{}",
                    dependency.name,
                    near.unwrap_or_default()
                );
                report(
                    format!("dependencies.critical[{i}].children[{j}]"),
                    message,
                    Some(seen.iter().copied().collect::<Vec<_>>().join(", ")),
                );
            }
        }
    }
    if let Some(message) = differing_test(service) {
        let allowed = "the same digest, variables and min_interval";
        report("dependencies".to_owned(), message, Some(allowed.to_owned()));
    }
    if let Some((at, circle)) = circle(service) {
        let message = format!("depends on itself: {}", circle.join(" -> "));
        report(format!("dependencies.critical[{at}].children"), message, None);
    }
    let critical: Vec<&str> = service.critical.iter().map(|d| d.name.as_str()).collect();
    let mut playbooks = BTreeSet::new();
    for (i, playbook) in service.playbooks.iter().enumerate() {
        if !critical.contains(&playbook.dependency.as_str()) {
            let message = format!("{:?} is no critical dependency", playbook.dependency);
            report(format!("playbooks[{i}].dependency"), message, Some(critical.join(", ")));
        }
        if !playbooks.insert(playbook.name.as_str()) {
            report(
                format!("playbooks[{i}].name"),
                format!("the name {:?} is taken", playbook.name),
                None,
            );
        }
    }
}

/// A test that two dependencies require, and not as the same.
fn differing_test(service: &Service) -> Option<String> {
    let required = service.required_tests();
    service.dependencies().find_map(|(dependency, tests)| {
        let differs = |test: &&RequiredTest| required.get(test.name.as_str()).is_some_and(|same| same != test);
        let name = &tests.iter().find(differs)?.name;
        Some(format!(
            "{dependency} requires the test {name:?} otherwise than another dependency does"
        ))
    })
}

fn names(service: &Service) -> Vec<(String, &str)> {
    let critical = service.critical.iter().enumerate();
    let critical = critical.map(|(i, d)| (format!("dependencies.critical[{i}]"), d.name.as_str()));
    let others = service.non_critical.iter().enumerate();
    let others = others.map(|(i, d)| (format!("dependencies.non_critical[{i}]"), d.name.as_str()));
    critical.chain(others).collect()
}

/// The first way from a dependency back to itself, and which it is.
fn circle(service: &Service) -> Option<(usize, Vec<&str>)> {
    let children: BTreeMap<&str, &[String]> = service.critical.iter().map(|d| (d.name.as_str(), d.children.as_slice())).collect();
    let begins = service.critical.iter().enumerate();
    begins
        .map(|(i, d)| (i, way_back(&children, &d.name)))
        .find_map(|(i, way)| Some((i, way?)))
}

/// Breadth first, each dependency once, so that it ends on any graph.
fn way_back<'a>(children: &BTreeMap<&'a str, &'a [String]>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut edge = vec![start];
    while let Some(here) = edge.pop() {
        for child in children.get(here).copied().unwrap_or_default() {
            if child == start {
                let mut way = vec![start];
                let mut step = here;
                while step != start {
                    way.push(step);
                    step = came_from.get(step)?;
                }
                way.push(start);
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(child.as_str()) {
                came_from.insert(child, here);
                edge.push(child);
            }
        }
    }
    None
}
