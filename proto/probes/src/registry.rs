//! Every kind of probe there is: the only list of them, and nothing is decided by it.

use crate::kind::{AnyProbe, Description, Kind};
use crate::{command, dns, http, prometheus, tcp};

const KINDS: &[&dyn AnyProbe] = &[
    &Kind::<http::Http>::new(),
    &Kind::<tcp::Tcp>::new(),
    &Kind::<dns::Dns>::new(),
    &Kind::<prometheus::Prometheus>::new(),
    &Kind::<command::Command>::new(),
];

pub fn find(kind: &str) -> Option<&'static dyn AnyProbe> {
    KINDS.iter().copied().find(|known| known.kind() == kind)
}

/// Each kind in its own words, in the order of the list.
pub fn descriptions() -> Vec<Description> {
    KINDS.iter().map(|kind| kind.describe()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let names: BTreeSet<&str> = descriptions().iter().map(|kind| kind.kind).collect();
        assert_eq!(names.len(), KINDS.len());
        assert!(names.iter().all(|name| find(name).is_some()) && find("no-such").is_none());
    }

    #[test]
    fn each_kind_describes_itself_in_full() {
        for kind in descriptions() {
            assert!(!kind.summary.is_empty() && !kind.examples.is_empty(), "{}", kind.kind);
            let properties = kind.params["properties"].as_object().unwrap();
            assert!(
                properties.contains_key(kind.shorthand) && properties.contains_key("within"),
                "{}",
                kind.kind
            );
            for (name, property) in properties {
                let words = property["description"].as_str().unwrap_or_default();
                assert!(words.len() > 10, "{}: {name} has no words", kind.kind);
            }
        }
    }

    #[test]
    fn examples_are_accepted_and_canonical_parameters_stay_the_same() {
        for kind in KINDS {
            for (says, params) in kind.describe().examples {
                let once = kind.check(&params).unwrap_or_else(|problems| panic!("{says}: {problems}"));
                assert_eq!(kind.check(&once).unwrap(), once, "{says}");
            }
        }
    }

    #[test]
    fn unknown_parameters_are_refused_by_every_kind() {
        for kind in KINDS {
            let (_, mut params) = kind.describe().examples.remove(0);
            params.insert("no_such_parameter".to_owned(), Value::from(1));
            let problems = kind.check(&params).unwrap_err();
            assert_eq!(problems.0[0].path, "params.no_such_parameter");
        }
    }
}
