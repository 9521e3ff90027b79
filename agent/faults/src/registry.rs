//! Every kind there is, family by family; the only list of them, and nothing is decided by it.

use proto_model::catalogue::{Catalogue, FaultKind};

use crate::fault::AnyFault;
use crate::{cpu, disk, memory, network, process};

const FAMILIES: &[&[&dyn AnyFault]] = &[cpu::KINDS, memory::KINDS, disk::KINDS, network::KINDS, process::KINDS];

/// Every registered kind, by family and name.
pub fn registry() -> impl Iterator<Item = &'static dyn AnyFault> {
    FAMILIES.iter().flat_map(|kinds| kinds.iter().copied())
}

pub fn find(kind: &FaultKind) -> Option<&'static dyn AnyFault> {
    registry().find(|fault| &fault.kind() == kind)
}

/// What this agent can do, in each kind's own words.
pub fn catalogue() -> Catalogue {
    Catalogue(registry().map(AnyFault::describe).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let names: Vec<FaultKind> = registry().map(AnyFault::kind).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(names.iter().all(|name| find(name).is_some()));
        assert!(find(&FaultKind::parse("no.such").unwrap()).is_none());
    }

    #[test]
    fn each_kind_describes_itself_in_full() {
        for description in catalogue().0 {
            let kind = &description.kind;
            assert!(
                !description.summary.is_empty() && !description.measured_by.is_empty() && !description.undone_by.is_empty(),
                "{kind}"
            );
            assert!(!description.examples.is_empty(), "{kind} shows no example");
            let properties = description.params["properties"]
                .as_object()
                .unwrap_or_else(|| panic!("{kind} has no parameters"));
            for (name, property) in properties {
                assert!(
                    property["description"].as_str().is_some_and(|d| d.len() > 10),
                    "{kind}: {name} has no words"
                );
            }
        }
    }

    #[test]
    fn examples_are_accepted_and_canonical_parameters_stay_the_same() {
        for fault in registry() {
            for example in fault.describe().examples {
                let once = fault
                    .check(&example.params)
                    .unwrap_or_else(|p| panic!("{} {}: {p}", fault.kind(), example.params));
                assert_eq!(fault.check(&once).unwrap(), once);
                fault.claims(&once).unwrap();
            }
        }
    }

    #[test]
    fn strangers_among_the_parameters_are_refused_by_every_kind() {
        for fault in registry() {
            let mut params = fault.describe().examples[0].params.clone();
            params["no_such_parameter"] = Value::from(1);
            let problems = fault.check(&params).unwrap_err();
            assert_eq!(problems.0[0].path, "params.no_such_parameter", "{}", fault.kind());
        }
    }
}
