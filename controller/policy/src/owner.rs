//! What the controller's owner allows, by environment: `[environment.NAME]` and `[policy.NAME]` of controller.toml. Hosts have their own,
//! stricter word.

use std::collections::BTreeMap;

use proto_model::catalogue::FaultKind;
use proto_model::host::PRODUCTION;
use proto_model::quantity::{Millis, Percent};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::denial::Denial;
use crate::environments::{Environment, Environments};

/// The environments and their rules. An environment without rules has the defaults, except production: it must be opened to be used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    environments: Environments,
    /// By the declared name.
    rules: BTreeMap<String, EnvironmentPolicy>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnvironmentPolicy {
    /// Hosts under an injection at the same time, over all runs.
    pub max_faulted_hosts: Option<u32>,
    /// That of one service's hosts (label `service`), in percent.
    pub max_faulted_share_per_service: Option<Percent>,
    /// Longest duration of one injection.
    pub max_duration: Option<Millis>,
    /// Kinds that may be used; `*` stands for any characters.
    pub faults: Vec<Glob>,
    /// Runs of one service at the same time.
    pub runs_per_service: u32,
    /// Whether the environment's name must be typed; production's always must.
    pub require_confirm: bool,
    /// Whether scheduled runs may do what cannot be undone.
    pub irreversible_unattended: bool,
}

impl Default for EnvironmentPolicy {
    fn default() -> Self {
        Self {
            max_faulted_hosts: None,
            max_faulted_share_per_service: None,
            max_duration: None,
            faults: vec![Glob("*".into())],
            runs_per_service: 1,
            require_confirm: false,
            irreversible_unattended: false,
        }
    }
}

/// Why the policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPolicy(String);

impl Policy {
    /// From the tables of a configuration; rules for what is not declared are an error, or they would silently hold nowhere.
    pub fn new(declarations: &BTreeMap<String, Environment>, tables: &BTreeMap<String, EnvironmentPolicy>) -> Result<Self, InvalidPolicy> {
        let environments = Environments::declared(declarations).map_err(InvalidPolicy)?;
        let mut rules = BTreeMap::new();
        for (name, table) in tables {
            let Some(declared) = environments.find(name) else {
                let names = environments.names();
                let message = format!("policy.{name}: {name} is not declared: add [environment.{name}] (allowed: {names})");
                return Err(InvalidPolicy(message));
            };
            if rules.insert(declared.to_owned(), table.clone()).is_some() {
                let message = format!("policy.{name} is there twice; names are compared without case");
                return Err(InvalidPolicy(message));
            }
        }
        Ok(Self { environments, rules })
    }

    /// Reads the `[environment.NAME]` and `[policy.NAME]` tables of a configuration and leaves its other tables alone.
    pub fn from_toml(text: &str) -> Result<Self, InvalidPolicy> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Tables {
            environment: BTreeMap<String, Environment>,
            policy: BTreeMap<String, EnvironmentPolicy>,
        }
        let tables: Tables = toml::from_str(text).map_err(|e| InvalidPolicy(e.to_string().trim_end().to_owned()))?;
        Self::new(&tables.environment, &tables.policy)
    }

    /// The rules of an environment, or `None` where the owner has to name it first.
    pub fn of(&self, environment: &str) -> Option<EnvironmentPolicy> {
        let name = self.environments.find(environment)?;
        match self.rules.get(name) {
            Some(rules) => Some(rules.clone()),
            None if self.environments.is_production(name) => None,
            None => Some(EnvironmentPolicy::default()),
        }
    }

    pub fn environments(&self) -> &Environments {
        &self.environments
    }

    /// What is not declared counts as production.
    pub fn is_production(&self, environment: &str) -> bool {
        self.environments.is_production(environment)
    }

    /// The rules of an environment, or why nothing may be injected there.
    pub fn open(&self, environment: &str) -> Result<EnvironmentPolicy, Denial> {
        let environment = self.environments.require(environment)?;
        self.of(environment).ok_or_else(|| {
            let message = format!("the controller's policy does not open {environment} (a host without label env counts as {PRODUCTION})");
            Denial::new(
                "policy",
                format!("policy.{environment}"),
                message,
                format!("[policy.{environment}] in controller.toml"),
            )
        })
    }

    /// Whether a run here must be confirmed by typing the environment's name.
    pub fn require_confirm(&self, environment: &str) -> bool {
        self.is_production(environment) || self.of(environment).is_some_and(|rules| rules.require_confirm)
    }
}

impl EnvironmentPolicy {
    pub fn allows(&self, kind: &FaultKind) -> bool {
        self.faults.iter().any(|glob| glob.matches(kind.as_str()))
    }
}

/// A pattern over names of kinds: `network.*`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Glob(String);

impl Glob {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
            return false;
        };
        let parts: Vec<&str> = parts.collect();
        let Some((last, middle)) = parts.split_last() else {
            return rest.is_empty();
        };
        for part in middle {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = |b: u8| b.is_ascii_lowercase() || b"._*".contains(&b);
        if !text.is_empty() && text.bytes().all(known) {
            return Ok(Self(text));
        }
        Err(de::Error::custom(format!(
            "{text:?} is no pattern of faults, such as network.* or cpu.burn"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_tables_and_refuses_what_it_does_not_know() {
        let text = "[listen]\nagents = 7400\n[policy.staging]\nmax_faulted_hosts = 3\nmax_duration = '5m'\nfaults = ['cpu.*']\n";
        let rules = Policy::from_toml(text).unwrap().of("staging").unwrap();
        assert_eq!((rules.max_faulted_hosts, rules.max_duration), (Some(3), Some(Millis(300_000))));
        assert_eq!(rules.runs_per_service, 1);
        for (bad, word) in [
            ("[policy.staging]\nmax_hosts = 3", "max_hosts"),
            ("[policy.staging]\nmax_duration = '5'", "duration"),
            ("[policy.staging]\nmax_duration = 5", "duration"),
            ("[policy.staging]\nfaults = ['CPU!']", "CPU!"),
            ("[policy.staging]\nmax_faulted_share_per_service = 101", "percent"),
            ("[policy]\nstaging = 3", "staging"),
            ("[policy.prod-eu]", "policy.prod-eu: prod-eu is not declared"),
            ("[environment.qa]\n[policy.staging]", "(allowed: production, qa)"),
            ("[policy.qa]\n[policy.QA]", "twice"),
            ("[environment.prod]", "environment.prod must say"),
            ("[environment.qa]\nprod = true", "prod"),
        ] {
            let message = Policy::from_toml(bad).unwrap_err().to_string();
            assert!(message.contains(word), "{bad}: {message}");
        }
    }

    #[test]
    fn production_has_to_be_named_and_confirmed() {
        assert_eq!(Policy::default().of(PRODUCTION), None);
        assert!(Policy::default().of("staging").is_some());
        assert!(Policy::from_toml("[policy.production]").unwrap().of(PRODUCTION).is_some());
        let many = "[environment.prod-eu]\nproduction = true\n[environment.qa]\n[policy.PROD-EU]\nmax_faulted_hosts = 1";
        let many = Policy::from_toml(many).unwrap();
        assert!(many.require_confirm("Prod-EU") && !many.require_confirm("qa"));
        assert_eq!(many.of("prod-eu").unwrap().max_faulted_hosts, Some(1));
        assert_eq!(many.of(PRODUCTION), None, "opened by its own name only");
        let denial = many.open("staging").unwrap_err();
        assert!(denial.to_string().contains("(allowed: prod-eu, production, qa)"), "{denial}");
        let policy = Policy::from_toml("[policy.production]\nrequire_confirm = false\n[policy.qa]\nrequire_confirm = true").unwrap();
        assert!(policy.require_confirm(PRODUCTION) && policy.require_confirm("qa") && !policy.require_confirm("staging"));
    }

    #[test]
    fn patterns_of_faults() {
        for (glob, text, expected) in [
            ("*", "cpu.burn", true),
            ("cpu.*", "cpu.burn", true),
            ("cpu.*", "gpu.burn", false),
            ("cpu.burn", "cpu.burn", true),
            ("cpu.burn", "cpu.burns", false),
            ("*.burn", "cpu.burn", true),
            ("*p*b*n", "cpu.burn", true),
            ("*.b", "cpu.burn", false),
            ("cpu.burn*burn", "cpu.burn", false),
        ] {
            assert_eq!(Glob(glob.into()).matches(text), expected, "{glob} {text}");
        }
    }
}
