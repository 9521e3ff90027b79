//! A service as its owners describe it: environments, dependencies, probes, playbooks and the tests it requires. It holds no evidence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::required_test::RequiredTest;
use crate::time::Timestamp;

/// The JSON document `Service`, and what a service file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    pub owners: Vec<String>,
    pub environments: BTreeMap<String, Environment>,
    pub critical: Vec<CriticalDependency>,
    pub non_critical: Vec<NonCriticalDependency>,
    pub playbooks: Vec<Playbook>,
}

/// What an environment has in common with others; both sides share it, whoever says so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    pub shares: Vec<Share>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The other environment.
    pub with: String,
    /// In words: `the payment gateway`.
    pub what: String,
}

/// Without it the service does not do what it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CriticalDependency {
    pub name: String,
    /// How long the service does without before it hurts.
    pub criticality_period_ms: u64,
    /// The time in which it must be back.
    pub rto_ms: u64,
    /// The time whose data may be lost; 0 is none.
    pub rpo_ms: u64,
    /// Dependencies of this one, each declared as well.
    pub children: Vec<String>,
    /// Names of the experiments' probes that see it.
    pub probes: Vec<String>,
    /// Experiments that test it; each is required.
    pub tests: Vec<RequiredTest>,
}

/// Its failure hurts only past a threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NonCriticalDependency {
    pub name: String,
    /// In words: `more than 5% of answers without recommendations`.
    pub threshold: String,
    pub probes: Vec<String>,
    pub tests: Vec<RequiredTest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Playbook {
    pub name: String,
    /// The critical dependency that it brings back.
    pub dependency: String,
    pub steps: Vec<String>,
}

impl Service {
    /// Every dependency with its tests, the critical ones first.
    pub fn dependencies(&self) -> impl Iterator<Item = (&str, &[RequiredTest])> {
        let critical = self.critical.iter().map(|d| (d.name.as_str(), d.tests.as_slice()));
        critical.chain(self.non_critical.iter().map(|d| (d.name.as_str(), d.tests.as_slice())))
    }

    /// Every required test once, by name. Where several dependencies name one, they say the same of it: the file is refused otherwise.
    pub fn required_tests(&self) -> BTreeMap<&str, &RequiredTest> {
        let tests = self.dependencies().flat_map(|(_, tests)| tests);
        tests.map(|test| (test.name.as_str(), test)).collect()
    }

    /// Why an environment is not apart from another, if it is not: undeclared, or what they share.
    pub fn shared(&self, one: &str, other: &str) -> Option<String> {
        let says = |from: &str, to: &str| {
            let found = self.environments.get(from)?.shares.iter().find(|share| share.with == to)?;
            Some(format!("{one} shares {} with {other}", found.what))
        };
        if one == other {
            return Some(format!("{one} is {other}"));
        }
        if !self.environments.contains_key(one) {
            return Some(format!("the service file does not declare {one}, so what it shares is not known"));
        }
        says(one, other).or_else(|| says(other, one))
    }
}

/// A service as it is kept: the file's text is the truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    pub name: String,
    /// The file as it was applied.
    pub text: String,
    /// `sha256:` of the text.
    pub digest: String,
    pub applied_at: Timestamp,
    pub applied_by: String,
}

/// The JSON document `Service` as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceDocument {
    #[serde(flatten)]
    pub service: Service,
    pub digest: String,
    pub applied_at: Timestamp,
    pub applied_by: String,
}
