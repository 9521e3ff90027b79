//! Which environments there are, and which of them are production: `[environment.NAME]` of controller.toml.

use std::collections::{BTreeMap, BTreeSet};

use proto_model::host::{Host, PRODUCTION};
use serde::{Deserialize, Serialize};

use crate::denial::Denial;

/// Declared when controller.toml has no table `[environment.NAME]`: the name, and whether it is production.
pub const BUILT_IN: [(&str, bool); 9] = [
    (PRODUCTION, true),
    ("prod", true),
    ("live", true),
    ("staging", false),
    ("qa", false),
    ("test", false),
    ("development", false),
    ("dev", false),
    ("demo", false),
];

/// Words that say production to a person: an environment that has one in its name must say whether it is.
const PRODUCTION_WORDS: [&str; 4] = ["prod", "production", "prd", "live"];

/// One table `[environment.NAME]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Environment {
    /// Whether the rules of production hold there. A name such as `prod-eu` has to say it.
    pub production: Option<bool>,
}

/// Names as they are declared; whoever writes one may write it in any case. Hosts without a label are in `production`, which is always
/// declared and always production.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environments(BTreeMap<String, Declared>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    name: String,
    production: bool,
}

impl Default for Environments {
    fn default() -> Self {
        Self(BUILT_IN.into_iter().map(|(name, production)| declared(name, production)).collect())
    }
}

fn declared(name: &str, production: bool) -> (String, Declared) {
    let name = name.to_owned();
    (key(&name), Declared { name, production })
}

fn key(name: &str) -> String {
    name.to_lowercase()
}

impl Environments {
    /// Those of the configuration, or the built-in ones when it declares none; or what is wrong with them.
    pub(crate) fn declared(tables: &BTreeMap<String, Environment>) -> Result<Self, String> {
        if tables.is_empty() {
            return Ok(Self::default());
        }
        let mut all = BTreeMap::from([declared(PRODUCTION, true)]);
        let mut seen = BTreeSet::new();
        for (name, table) in tables {
            if let Err(why) = proto_model::selector::value(name) {
                return Err(format!("environment.{name}: {why}"));
            }
            if !seen.insert(key(name)) {
                return Err(format!("environment.{name} is declared twice; names are compared without case"));
            }
            let production = match table.production {
                Some(false) if key(name) == PRODUCTION => {
                    let why = "hosts without label env are in it";
                    return Err(format!("environment.{name}: production = false is not possible: {why}"));
                }
                Some(production) => production,
                None if key(name) == PRODUCTION => true,
                None if reads_as_production(name) => {
                    return Err(format!(
                        "environment.{name} must say whether it is production: production = true or false"
                    ));
                }
                None => false,
            };
            all.extend([declared(name, production)]);
        }
        Ok(Self(all))
    }

    /// The declared spelling of a name; none when it is not declared.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.get(name).map(|declared| declared.name.as_str())
    }

    /// What is not declared counts as production.
    pub fn is_production(&self, name: &str) -> bool {
        self.get(name).is_none_or(|declared| declared.production)
    }

    /// Most names are written in small letters, and then need no copy.
    fn get(&self, name: &str) -> Option<&Declared> {
        self.0.get(name).or_else(|| self.0.get(&key(name)))
    }

    /// The environment of a host, as it is declared; as its label says where it is not.
    pub fn of<'a>(&'a self, host: &'a Host) -> &'a str {
        let label = host.environment();
        self.find(label).unwrap_or(label)
    }

    /// The declared spelling, or a denial that lists what is declared.
    pub fn require(&self, name: &str) -> Result<&str, Denial> {
        self.find(name).ok_or_else(|| {
            let message = format!("{name} is not declared: add [environment.{name}] to controller.toml, or correct label env of the hosts");
            Denial::new("environment", "environment", message, self.names())
        })
    }

    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.0.values().map(|declared| declared.name.as_str()).collect();
        names.join(", ")
    }
}

fn reads_as_production(name: &str) -> bool {
    let lower = key(name);
    lower
        .split(|c: char| !c.is_ascii_alphabetic())
        .any(|word| PRODUCTION_WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(text: &str) -> BTreeMap<String, Environment> {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn names_are_compared_without_case_and_unknown_ones_count_as_production() {
        let declared = Environments::declared(&tables("[Prod-EU]\nproduction = true\n[Staging]\n")).unwrap();
        assert_eq!(
            (declared.find("prod-eu"), declared.find("STAGING")),
            (Some("Prod-EU"), Some("Staging"))
        );
        assert!(declared.is_production("PROD-eu") && !declared.is_production("staging"));
        assert!(declared.is_production("qa"), "what is not declared");
        assert!(declared.is_production("Production"), "always declared");
        let denial = declared.require("qa").unwrap_err();
        assert!(denial.to_string().contains("(allowed: Prod-EU, production, Staging)"), "{denial}");
    }

    #[test]
    fn without_any_table_the_usual_names_are_declared() {
        let usual = Environments::default();
        for name in ["prod", "Production", "LIVE"] {
            assert!(usual.find(name).is_some() && usual.is_production(name), "{name}");
        }
        for name in ["staging", "QA", "test", "dev", "development", "demo"] {
            assert!(usual.find(name).is_some() && !usual.is_production(name), "{name}");
        }
        assert!(usual.find("prod-eu").is_none());
    }

    #[test]
    fn a_name_that_reads_as_production_must_say_whether_it_is() {
        for (text, word) in [
            ("[prod]", "environment.prod must say"),
            ("[eu-live-2]", "must say"),
            ("[production]\nproduction = false", "not possible"),
            ("[qa]\n[QA]", "declared twice"),
            ("['a b']", "a b"),
        ] {
            let why = Environments::declared(&tables(text)).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
        let fine = Environments::declared(&tables("[prod-copy]\nproduction = false\n[product]\n")).unwrap();
        assert!(!fine.is_production("prod-copy") && !fine.is_production("product"));
    }
}
